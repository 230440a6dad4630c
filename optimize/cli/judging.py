"""Commands about reports and verdicts."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.cli.common import EXIT_CODES, exit_code, request_of, teller_of
from optimize.escape import for_markdown
from optimize.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optimize.judge.records import Report

COMPARED = ("compare.md", "compare.svg")


def report(arguments: argparse.Namespace) -> int:
    """Show a stored report."""
    from optimize.judge.reports.brief import gates_json
    from optimize.judge.reports.nodes import read_nodes
    from optimize.judge.reports.page import html
    from optimize.judge.reports.render import svg, terminal
    from optimize.judge.stored import read_vouched

    *earlier, report = sorted(map(read_vouched, arguments.files), key=lambda each: each.created)
    if others := {each.recipe for each in earlier} - {report.recipe}:
        raise ValueError(
            f"reports of {report.recipe} and of {', '.join(sorted(others))}: a history is of one "
            "recipe; `optimize compare` sets different runs side by side"
        )
    if arguments.sensitivity is not None and arguments.html is None:
        raise ValueError("--sensitivity is shown in the page: give --html FILE too")
    if arguments.html is not None:
        nodes = [] if arguments.sensitivity is None else read_nodes(arguments.sensitivity)
        arguments.html.write_text(html(report, earlier, nodes), encoding="utf-8")
    if arguments.svg is not None:
        arguments.svg.write_text(svg(report), encoding="utf-8")
    if arguments.json:
        print(gates_json(report))
    elif arguments.svg is None and arguments.html is None:
        width = shutil.get_terminal_size((160, 24)).columns
        print(terminal(report, width, colour=sys.stdout.isatty()))
    return EXIT_CODES[report.verdict]


def compare(arguments: argparse.Namespace) -> int:
    """Show several reports side by side."""
    from optimize.judge.reports import compare
    from optimize.judge.reports.render import plain_terminal, table_markdown

    if arguments.out is not None:
        for name in COMPARED:  # of an earlier comparison
            (arguments.out / name).unlink(missing_ok=True)
    runs = compare.read_runs(arguments.reports, arguments.variant)
    found = compare.changes(runs, arguments.variant, arguments.max_slowdown_pct)
    tables = [compare.run_table(runs, arguments.variant), compare.change_table(found)]
    lines = compare.text_lines(found)
    verdict = compare.verdict(found)
    print(plain_terminal(tables, [*lines, f"verdict: {verdict}"], colour=sys.stdout.isatty()))
    if arguments.out is not None:
        from optimize.judge.reports.plots import plot_runs

        arguments.out.mkdir(parents=True, exist_ok=True)
        shown = "\n".join(map(for_markdown, lines))
        parts = [f"## Verdict: {verdict}", *map(table_markdown, tables), shown]
        text = "\n\n".join(part for part in parts if part) + "\n"
        table, plot = (arguments.out / name for name in COMPARED)
        table.write_text(text, encoding="utf-8")
        plot_runs(runs, arguments.variant, plot)
    return exit_code(verdict, arguments)


def duet(arguments: argparse.Namespace) -> int:
    """Time one bundle under several interpreters."""
    from optimize.judge.duet import duet
    from optimize.judge.reports.render import failure_told, terminal, write_report

    with teller_of(arguments) as tell, failure_told(arguments.out):
        report = duet(
            arguments.bundle,
            arguments.pythons,
            kit=arguments.kit,
            max_slowdown_pct=arguments.max_slowdown_pct,
            mode="quick" if arguments.quick else "full",
            threads=arguments.threads,
            tell=tell,
        )
    if arguments.out is not None:
        write_report(report, arguments.out)
    if arguments.json:
        from optimize.judge.reports.brief import gates_json

        print(gates_json(report))
        return exit_code(report.verdict, arguments)
    width = shutil.get_terminal_size((160, 24)).columns
    print(terminal(report, width, colour=sys.stdout.isatty()))
    return exit_code(report.verdict, arguments)


def save_baseline(arguments: argparse.Namespace) -> int:
    """Keep a report that passed, and what further runs of the same models differ by."""
    from optimize.judge.stored import read_vouched, together, write_json

    target: Path = arguments.out
    if not arguments.reports and arguments.runs < 1:
        raise ValueError("give reports to keep, or --runs N to measure so many now, or both")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; give a file with --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    given = {str(path): _passed(read_vouched(path), str(path)) for path in arguments.reports}
    measured = _measured_runs(arguments, given)
    kept = together(given | {str(path): report for path, report in measured.items()})
    write_json(kept, target)
    for path in measured:
        path.unlink()
    runs = f"{1 + len(kept.runs)} run{'s' if kept.runs else ''}"
    print(f"baseline: {target} ({runs}, {kept.mode} mode, {kept.created})")
    return 0


def _measured_runs(arguments: argparse.Namespace, given: Iterable[str]) -> dict[Path, Report]:
    """So many runs, each in a file beside the baseline: one that does not pass loses no other."""
    from optimize.judge.stored import write_json

    target: Path = arguments.out
    places = (target.with_name(f"{target.stem}-run-{number}.json") for number in count(1))
    free = (place for place in places if not place.exists())
    found: dict[Path, Report] = {}
    for number in range(1, arguments.runs + 1):
        try:
            report = _passed(_measured(arguments, number), f"run {number}")
        except Exception as error:
            if not found:
                raise
            words = [*given, *map(str, found), "--runs", str(arguments.runs - len(found))]
            raise ValueError(
                f"{error}\nThe runs before it are kept. Go on from there with `optimize baseline "
                f"save {shlex.join(words)}`, and the options that were given"
            ) from error
        place = next(free)
        write_json(report, place)
        found[place] = report
    return found


def _measured(arguments: argparse.Namespace, number: int) -> Report:
    from optimize.judge.request import JudgedRun
    from optimize.pipeline.runner import build

    with Teller() as tell:
        tell(f"run {number} of {arguments.runs}")
        _, report = JudgedRun(
            request_of(arguments, kit=arguments.kit), partial(build, judged=True)
        ).judge(tell)
    return report


def _passed(report: Report, source: str) -> Report:
    """The report, where it passed and its verdicts follow from what it measured."""
    from optimize.judge.reports.tables import complaints
    from optimize.judge.stored import check_verdicts

    if report.verdict != "pass":
        raise ValueError(
            f"{source} is not a pass ({report.verdict}); a baseline that is worse than its gates "
            "would let the next regression through:\n  " + "\n  ".join(complaints(report))
        )
    check_verdicts(report, source)
    return report
