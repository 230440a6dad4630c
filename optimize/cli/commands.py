"""The command ``optimize``; a stage is imported inside the command that needs it."""

from __future__ import annotations

import argparse
import codecs
import inspect
import json
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from optimize.bundle.manifest import KIT_NAME
from optimize.cli.arguments import build_parser
from optimize.escape import for_markdown, for_terminal, lines_for_terminal

if TYPE_CHECKING:
    from optimize.settings.recipe import Settings

EXTRAS = dict.fromkeys(("run", "build", "init", "check", "cache"), "build") | {"tune": "build,tune"}
COST_TEXTS = 1000
# pytest's own codes are 0 to 5, and an undecided run has the same code there.
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 6}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = build_parser(RUNNERS).parse_args(argv)
    shown = warnings.showwarning
    warnings.showwarning = partial(_warn, shown)
    try:
        code: int = arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on from there", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(
            f"optimize: {error}; the command {arguments.command!r} needs an extra: "
            f"`pip install optimize[{EXTRAS.get(arguments.command, 'judge')}]`",
            file=sys.stderr,
        )
        return 1
    except (ValueError, RuntimeError, OSError) as error:
        if arguments.debug:
            raise
        # Every refusal of this package is one of these, and says what to do.
        print(lines_for_terminal(f"optimize: {error}"), file=sys.stderr)
        return 1
    except Exception as error:
        if arguments.debug:
            raise
        print(lines_for_terminal(f"optimize: {_unexpected(error)}"), file=sys.stderr)
        return 1
    finally:
        warnings.showwarning = shown
    return code


def _unexpected(error: Exception) -> str:
    """Words for what nobody foresaw, with the place in this package."""
    own = Path(__file__).parents[1]
    places = [
        f"{Path(frame.filename).relative_to(own.parent)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(own)
    ]
    return (
        f"unexpected {type(error).__name__}: {error} (at {places[-1] if places else '?'}). This is "
        "a fault of optimize: please report it, with what `optimize --debug …` prints."
    )


def _warn(others: Any, message: Warning | str, category: type[Warning], *more: Any) -> None:
    """A warning of this package as a line for a person; others as Python shows them."""
    if category.__module__.split(".")[0] == "optimize":
        print(lines_for_terminal(f"optimize: warning: {message}"), file=sys.stderr)
    else:
        others(message, category, *more)


def _settings(arguments: argparse.Namespace) -> tuple[Settings, str]:
    from optimize import settings

    return settings.load(arguments.recipe, Path.cwd(), arguments.overrides)


class Teller:
    """Prints progress lines with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        """Print one line."""
        shown = for_terminal(line)
        print(f"{time.monotonic() - self._start:5.0f} s  {shown}", flush=True)


def _run(arguments: argparse.Namespace) -> int:
    from optimize.judge.reports.render import terminal, write_report
    from optimize.judge.request import JudgedRun, Request
    from optimize.pipeline.runner import build

    request = Request(
        project=Path.cwd(),
        recipe=arguments.recipe,
        overrides=tuple(arguments.overrides),
        baseline=arguments.baseline,
        quick=arguments.quick,
    )
    _, report = JudgedRun(request, build).judge(Teller())
    write_report(report, arguments.out)
    width = shutil.get_terminal_size((160, 24)).columns
    print(terminal(report, width, colour=sys.stdout.isatty()))
    print(f"report: {arguments.out / 'report.json'}")
    return _exit_code(report.verdict, arguments)


def _build(arguments: argparse.Namespace) -> int:
    from optimize.pipeline.runner import build
    from optimize.training.distributed import Processes
    from optimize.training.profile import Profile

    chosen, _ = _settings(arguments)
    if arguments.explain is not None or arguments.why is not None:
        return _explain(chosen, arguments)
    target: Path = arguments.out
    if target.exists() and not (target / KIT_NAME).is_file():
        raise FileExistsError(f"{target} exists and is not a kit; choose another folder with --out")
    profile = Profile()
    with profile.section("everything else"):
        kit = build(chosen, Teller(), profile=profile)
    processes = Processes.launched()
    processes.leave()
    if not processes.first:
        return 0
    if arguments.profile:
        print("\n".join(profile.lines()))
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        shutil.copytree(kit, Path(work, "kit"))
        if target.exists():
            target.rename(Path(work, "old"))
        Path(work, "kit").rename(target)
    print(f"kit: {arguments.out}\nbundle: {arguments.out / 'student-int8'}")
    return 0


def _explain(chosen: Settings, arguments: argparse.Namespace) -> int:
    from optimize.pipeline.cache import StageCache, default_root
    from optimize.pipeline.explain import difference, explanation
    from optimize.pipeline.runner import Build, Runner

    stages = Build(chosen, Runner(Teller())).stages
    named = [name for name in (arguments.explain, arguments.why) if name]
    for name in named:
        if name not in stages:
            raise ValueError(f"no stage {name!r}; this recipe has {', '.join(stages)}")
    if arguments.explain is not None:
        print("\n".join(explanation(stages[arguments.explain])))
    if arguments.why is not None:
        entries = list(StageCache(default_root()).entries())
        for name in named[-1:] or stages:
            print("\n".join(difference(stages[name], entries)))
    return 0


def _cache(arguments: argparse.Namespace) -> int:
    from optimize.pipeline.cache import StageCache, default_root

    cache = StageCache(default_root())
    entries = sorted(cache.entries(), key=lambda entry: (entry.name, entry.age_days))
    if arguments.older_than is None:
        for entry in entries:
            size = f"{entry.size_bytes / 1e6:10,.1f} MB"
            print(f"{size} {entry.age_days:6.1f} days  {entry.name}-{entry.key}")
        print(
            f"{len(entries)} stages in {default_root()}, {cache.disk_bytes() / 1e6:,.1f} MB on disk"
        )
        return 0
    before = cache.disk_bytes()
    removed = 0
    for entry in entries:
        if entry.age_days < arguments.older_than or (arguments.keep_kits and entry.name == "kit"):
            continue
        if cache.remove(entry):
            removed += 1
        else:
            print(f"in use, left: {entry.name}-{entry.key}")
    freed = before - cache.disk_bytes()
    print(f"{removed} of {len(entries)} stages removed, {freed / 1e6:,.1f} MB freed")
    return 0


def _tune(arguments: argparse.Namespace) -> int:
    from optimize.pipeline.tune import front, recipe_toml, tune
    from optimize.settings.load import DEFAULT_RECIPE, has_project_settings

    chosen, source = _settings(arguments)
    study = tune(chosen, arguments.storage, arguments.study, Teller())
    trials = front(study)
    for trial in trials:
        size = "" if len(trial.values) < 2 else f", {trial.values[1]:,.0f} parameters"
        print(f"trial {trial.number}: validation accuracy {trial.values[0]:.4f}{size}")
    own = arguments.recipe is None and has_project_settings(Path.cwd())
    base = None if own else arguments.recipe or DEFAULT_RECIPE
    arguments.out.write_text(recipe_toml(trials[0], base), encoding="utf-8")
    print(f"searched from {source}; the most accurate as a recipe: {arguments.out}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from optimize.judge.reports.render import svg, terminal
    from optimize.judge.stored import read_report

    report = read_report(arguments.file)
    if arguments.svg is not None:
        arguments.svg.write_text(svg(report), encoding="utf-8")
    else:
        width = shutil.get_terminal_size((160, 24)).columns
        print(terminal(report, width, colour=sys.stdout.isatty()))
    return EXIT_CODES[report.verdict]


def _compare(arguments: argparse.Namespace) -> int:
    from optimize.judge.reports import compare
    from optimize.judge.reports.render import plain_terminal, table_markdown

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
        (arguments.out / "compare.md").write_text(text, encoding="utf-8")
        plot_runs(runs, arguments.variant, arguments.out / "compare.svg")
    return _exit_code(verdict, arguments)


def _duet(arguments: argparse.Namespace) -> int:
    from optimize.judge.duet import duet
    from optimize.judge.reports.render import terminal, write_report

    report = duet(
        arguments.bundle,
        arguments.pythons,
        kit=arguments.kit,
        max_slowdown_pct=arguments.max_slowdown_pct,
        mode="quick" if arguments.quick else "full",
        threads=arguments.threads,
        tell=Teller(),
    )
    if arguments.out is not None:
        write_report(report, arguments.out)
    width = shutil.get_terminal_size((160, 24)).columns
    print(terminal(report, width, colour=sys.stdout.isatty()))
    return _exit_code(report.verdict, arguments)


def _exit_code(verdict: str, arguments: argparse.Namespace) -> int:
    """The verdict's, or what ``--inconclusive`` makes of an undecided one."""
    policy = arguments.inconclusive
    if verdict != "inconclusive" or policy is None:
        return EXIT_CODES[verdict]
    if policy == "warn":
        print("optimize: the verdict is INCONCLUSIVE", file=sys.stderr)
    return EXIT_CODES["fail" if policy == "fail" else "pass"]


def _save_baseline(arguments: argparse.Namespace) -> int:
    from optimize.judge.reports.tables import complaints
    from optimize.judge.stored import check_verdicts, read_report, write_json

    path: Path = arguments.report
    path = path / "report.json" if path.is_dir() else path
    report = read_report(path)
    if report.verdict != "pass":
        raise ValueError(
            f"{path} is not a pass ({report.verdict}); a baseline that is worse than its gates "
            "would let the next regression through:\n  " + "\n  ".join(complaints(report))
        )
    check_verdicts(report, str(path))
    write_json(report, arguments.out)
    print(f"baseline: {arguments.out} ({report.mode} mode, {report.created})")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    print(json.dumps(_schema_of(arguments.record), indent=1, sort_keys=True))
    return 0


def _schema_of(record: str) -> dict[str, Any]:
    if record == "report":
        from optimize.judge.records import Report

        return Report.model_json_schema()
    if record == "recipe":
        from optimize.settings.recipe import Settings

        return Settings.model_json_schema()
    import msgspec

    from optimize.bundle.manifest import KitManifest, Manifest

    schema = msgspec.json.schema({"bundle": Manifest, "kit": KitManifest}[record])
    for definition in schema["$defs"].values():
        # Python 3.13 dedents docstrings, those before do not.
        definition["description"] = inspect.cleandoc(definition["description"])
    return schema


def _check(arguments: argparse.Namespace) -> int:
    from optimize.data.summary import summary
    from optimize.models.fit import token_lengths
    from optimize.pipeline.cost import cost_of, measured_pace
    from optimize.pipeline.preflight import preflight
    from optimize.pipeline.runner import load_splits

    chosen, source = _settings(arguments)
    splits = load_splits(chosen)
    tokenizer = preflight(chosen)
    print(f"settings: {source}")
    print(
        f"data: {len(splits.train)} train, {len(splits.validation)} validation, "
        f"{len(splits.test)} test texts; {len(splits.label_names)} labels"
    )
    lengths = partial(token_lengths, tokenizer)
    print(lines_for_terminal("\n".join(summary(splits, chosen.teacher.max_length, lengths))))
    tokens = lengths(splits.train.texts[:COST_TEXTS])
    pace = measured_pace(chosen, sum(tokens) / len(tokens))
    print(f"cost: {cost_of(chosen, splits, pace).line}")
    print(f"gates: {', '.join(chosen.active_gates) or 'none'}")
    return 0


def _init(arguments: argparse.Namespace) -> int:
    from optimize.data.summary import summary
    from optimize.pipeline.initial import initial_recipe

    if arguments.out.exists():
        raise FileExistsError(f"{arguments.out} is there already; choose another file with --out")
    found = initial_recipe(arguments.data, arguments.checkpoint, arguments.minutes)
    arguments.out.write_text(found.text, encoding="utf-8")
    print(lines_for_terminal(found.text))
    print(lines_for_terminal("\n".join(summary(found.splits))))
    print(found.cost.line)
    print(f"recipe: {arguments.out}; next: optimize run --recipe {arguments.out}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from optimize.bundle.classifier import Classifier

    classifier = Classifier(arguments.bundle)
    code = 0
    # One by one, as the bundle was judged: a batch shares its INT8 scales.
    for place, given in _texts_to_predict(arguments.texts):
        try:
            text = given.decode("utf-8") if isinstance(given, bytes) else given
            ((label, probability),) = classifier.predict([text])
        except ValueError as error:  # not UTF-8, or half a character
            # The other lines are still answered.
            print(lines_for_terminal(f"optimize: {place}: {error}"), file=sys.stderr)
            code = 1
            continue
        print(for_terminal(f"{label}\t{probability:.4f}\t{text}").replace("\\x09", "\t"))
    return code


def _texts_to_predict(given: Sequence[str]) -> Iterator[tuple[str, str | bytes]]:
    """Each text with its place: the arguments, or the lines of standard input as bytes."""
    if given:
        yield from ((f"text {number}", text) for number, text in enumerate(given, start=1))
        return
    for number, line in enumerate(getattr(sys.stdin, "buffer", sys.stdin), start=1):
        content = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
        if number == 1:
            content = content.removeprefix(codecs.BOM_UTF8)
        content = content.rstrip(b"\r\n")
        if content.strip():
            yield f"line {number}", content


RUNNERS = {
    "run": _run,
    "build": _build,
    "cache": _cache,
    "tune": _tune,
    "init": _init,
    "check": _check,
    "report": _report,
    "compare": _compare,
    "duet": _duet,
    "baseline": _save_baseline,
    "schema": _schema,
    "predict": _predict,
}
