"""A report as Markdown, for a terminal, as a picture, and as files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.escape import for_markdown, for_terminal, lines_for_terminal
from optimize.judge.records import Report
from optimize.judge.reports.brief import badge, comment
from optimize.judge.reports.compare import FAILURE_NAME
from optimize.judge.reports.page import html
from optimize.judge.reports.tables import (
    MARKS,
    Table,
    change_table,
    conditions,
    finding_words,
    gate_table,
    remedies,
    startup_table,
    variant_table,
)
from optimize.judge.stored import REPORT_NAME, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
# GitHub cuts a job summary at 1 MiB.
SUMMARY_LIMIT = 1_000_000
VERDICT = "verdict"  # the last column's name, where there is one
# Changed texts shown; report.json has them all.
TERMINAL_CHANGES, MARKDOWN_CHANGES = 10, 200
# Columns of a table in a file, at least; and so many that any table has room, to measure it.
TABLE_WIDTH, ANY_WIDTH = 172, 10_000


def markdown(report: Report) -> str:
    """The report for a pull request or a job summary, at most 1 MB."""
    parts = [f"## Verdict: {MARKS[report.verdict]}", ""]
    failed = [finding_words(result) for result in report.gates if result.verdict != "pass"]
    failed = [report.failure, *failed] if report.failure else failed
    parts += [f"- {for_markdown(line)}" for line in (*failed, *remedies(report))] + [""]
    tables = [variant_table(report), gate_table(report), startup_table(report)]
    if report.baseline is not None and report.baseline.changes:
        tables.append(change_table(report, MARKDOWN_CHANGES))
    for table in tables:
        parts += [*_markdown_table(*table), ""]
    parts += [f"- {for_markdown(line)}" for line in conditions(report)]
    text = "\n".join(parts) + "\n"
    if len(text.encode()) > SUMMARY_LIMIT:
        text = text.encode()[:SUMMARY_LIMIT].decode(errors="ignore") + "\n\n… cut at 1 MB\n"
    return text


def table_markdown(table: Table) -> str:
    """A table of text as Markdown."""
    return "\n".join(_markdown_table(*table))


def plain_terminal(tables: Iterable[Table], lines: Iterable[str], *, colour: bool) -> str:
    """Tables and lines for a terminal."""
    stream = io.StringIO()
    console = _console(stream, TABLE_WIDTH, colour=colour)
    for table in tables:
        console.print(_rich_table(*table))
    for line in lines:
        console.print(for_terminal(line), markup=False)
    return _trimmed(stream)


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_markdown_cell, cells))} |"

    return [line(header), "|" + " --- |" * len(header), *(line(row) for row in rows)]


def _markdown_cell(cell: str) -> str:
    return "<br>".join(map(for_markdown, cell.split("\n")))


def terminal(report: Report, width: int, *, colour: bool) -> str:
    """The report as the last thing a terminal shows.

    A table that is wider than a terminal becomes lines; a file takes any width.

    Args:
        report: the run.
        width: of the terminal, in columns.
        colour: whether it is a terminal, and no file.
    """
    stream = io.StringIO()
    console = _console(stream, width, colour=colour)
    if not colour:
        _widen(console, report)
    _show(console, report)
    return _trimmed(stream) + "\n"


def _console(stream: io.StringIO, width: int, *, colour: bool) -> Console:
    from rich.console import Console

    return Console(
        file=stream,
        width=width,
        force_terminal=colour,
        no_color=None if colour else True,
        highlight=False,
    )


def _trimmed(stream: io.StringIO) -> str:
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def svg(report: Report) -> str:
    """The same as a picture, for a README or a web page."""
    from rich.console import Console
    from rich.terminal_theme import DIMMED_MONOKAI

    console = Console(file=io.StringIO(), record=True, width=TABLE_WIDTH, highlight=False)
    _widen(console, report)
    _show(console, report)
    return console.export_svg(title="pytest benchmarks", theme=DIMMED_MONOKAI)


def _show(console: Console, report: Report) -> None:
    for header, rows in _tables(report):
        table = _rich_table(header, rows)
        if _width(console, table) <= console.width:
            console.print(table)
        else:
            _print_lines(console, header, rows)
    for line in conditions(report):
        console.print(for_terminal(line), style="dim", markup=False)
    for result in report.gates:
        if result.verdict != "pass":
            line = for_terminal(finding_words(result))
            console.print(line, style=STYLES[result.verdict], markup=False)
    for line in remedies(report):
        console.print(for_terminal(line), markup=False)
    passed = sum(result.verdict == "pass" for result in report.gates)
    words = f"{MARKS[report.verdict]}: {passed} of {len(report.gates)} gates passed"
    why = f", and {for_terminal(report.failure)}" if report.failure else ""
    console.print(words + why, style=STYLES[report.verdict], markup=False)


def _tables(report: Report) -> list[Table]:
    tables = [variant_table(report), startup_table(report), gate_table(report)]
    if report.baseline is not None and report.baseline.changes:
        tables.insert(2, change_table(report, TERMINAL_CHANGES))
    return tables


def _widen(console: Console, report: Report) -> None:
    """Give a console the columns that every table needs."""
    needed = [_width(console, _rich_table(*table)) for table in _tables(report)]
    console.width = max(console.width, TABLE_WIDTH, *needed)


def _width(console: Console, table: RichTable) -> int:
    """Columns that a table needs to show every figure."""
    return console.measure(table, options=console.options.update(width=ANY_WIDTH)).maximum


def _print_lines(console: Console, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table's rows as lines, each figure behind its column's name."""
    from rich.padding import Padding
    from rich.text import Text

    styles = {MARKS[verdict]: style for verdict, style in STYLES.items()}
    ends = header[-1] == VERDICT
    names = header[1:-1] if ends else header[1:]
    for first, *cells in rows:
        last = cells.pop() if ends else ""
        words = Text.assemble(
            (lines_for_terminal(first), "bold"), "  ", (last, styles.get(last, ""))
        )
        words.rstrip()
        console.print(words)
        told = Text("; ").join(
            Text.assemble((f"{name} ", "dim"), cell)
            for name, cell in zip(names, map(_one_line, cells), strict=True)
        )
        console.print(Padding(told, (0, 0, 0, 2)))
    console.print()


def _one_line(cell: str) -> str:
    return " · ".join(lines_for_terminal(cell).split("\n"))


def _rich_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    styles = {MARKS[verdict]: style for verdict, style in STYLES.items()}
    table = RichTable(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
    )
    for number, name in enumerate(header):
        table.add_column(name, no_wrap=number != len(header) - 1, vertical="top")
    for row in rows:
        table.add_row(*(Text(lines_for_terminal(cell), style=styles.get(cell, "")) for cell in row))
    return table


DRAWN: dict[str, Callable[[Report], str]] = {
    "report.html": html,
    "comment.md": comment,
    "badge.json": badge,
    "report.md": markdown,
}


def clear_report(folder: Path) -> None:
    """Make the folder, without what an earlier run left in it: that is no answer of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (REPORT_NAME, *DRAWN, FAILURE_NAME):
        (folder / name).unlink(missing_ok=True)


def write_failure(folder: Path, why: str) -> None:
    """Why a run has no report, in the place where the report would be."""
    clear_report(folder)
    (folder / FAILURE_NAME).write_text(f"{why}\n", encoding="utf-8")


@contextmanager
def failure_told(folder: Path | None) -> Iterator[None]:
    """A run that ends without a report leaves the reason in its folder, and no earlier report.

    Args:
        folder: of the report; nothing is made where it is not there.
    """
    if folder is not None and folder.is_dir():
        clear_report(folder)
    try:
        yield
    except Exception as error:
        if folder is not None and folder.is_dir():
            with suppress(OSError):  # the error itself is what is told
                write_failure(folder, str(error))
        raise


def write_report(report: Report, folder: Path) -> None:
    """``report.json`` and all that is drawn from it, in a folder.

    ``report.html`` is the page, ``report.md`` the job's summary, ``comment.md`` what a pull request
    is told, and ``badge.json`` what a badge is drawn from.
    """
    clear_report(folder)
    write_json(report, folder / REPORT_NAME)
    for name, draw in DRAWN.items():
        (folder / name).write_text(draw(report), encoding="utf-8")
