"""The command ``optimize``; a stage is imported inside the command that needs it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optimize import __version__, settings
from optimize.records import KIT_NAME
from optimize.settings import DEFAULT_RECIPE, Settings

SCHEMAS = ("bundle", "kit", "report", "recipe")
Commands = Any  # argparse names the type of its subparsers with an underscore
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 2}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on from there", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        # Every refusal of this package is one of these, and says what to do.
        print(f"optimize: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="optimize",
        description="Make a text classifier small and fast, and prove that it stayed right.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_making(commands)
    _add_judging(commands)
    _add_using(commands)
    return parser


def _add_making(commands: Commands) -> None:
    run = commands.add_parser("run", help="build, judge, and write the report")
    _add_recipe(run)
    run.add_argument("--quick", action="store_true", help="three replicates")
    run.add_argument("--out", type=Path, default=Path("report"), help="folder of the report")
    run.add_argument("--baseline", metavar="FILE|BUNDLE|git:REV", help="must not be worse than it")
    _add_policy(run)
    run.set_defaults(run=_run)

    build = commands.add_parser("build", help="build the kit, and in it the bundle to ship")
    _add_recipe(build)
    build.add_argument("--out", type=Path, default=Path("kit"), help="folder to write")
    build.add_argument("--profile", action="store_true", help="print where the time goes")
    build.set_defaults(run=_build)

    tune = commands.add_parser("tune", help="search a recipe, chosen on validation alone")
    _add_recipe(tune)
    tune.add_argument(
        "--storage",
        default="journal:tune/journal.log",
        metavar="journal:FILE|URL",
        help="where the study is kept; machines that share it search together",
    )
    tune.add_argument("--study", default="optimize", help="name of the study in the storage")
    tune.add_argument("--out", type=Path, default=Path("tuned.toml"), help="recipe to write")
    tune.set_defaults(run=_tune)

    check = commands.add_parser("check", help="check recipe and data; trains nothing")
    _add_recipe(check)
    check.set_defaults(run=_check)


def _add_judging(commands: Commands) -> None:
    show = commands.add_parser("report", help="show a stored report")
    show.add_argument("file", type=Path, help="report.json of a run")
    show.add_argument("--svg", type=Path, help="write it as a picture instead")
    show.set_defaults(run=_report)

    compare = commands.add_parser("compare", help="reports of several onnxruntimes side by side")
    compare.add_argument("reports", nargs="+", type=Path, help="report.json, or their folders")
    compare.add_argument("--variant", default="student-int8", help="the one to compare")
    compare.add_argument("--max-slowdown-pct", type=float, default=5.0, metavar="PCT")
    compare.add_argument("--out", type=Path, help="write compare.md and compare.svg here")
    _add_policy(compare)
    compare.set_defaults(run=_compare)

    duet = commands.add_parser("duet", help="one bundle under several interpreters, interleaved")
    duet.add_argument("bundle", type=Path, help="a bundle within its kit, or a kit")
    duet.add_argument(
        "--python",
        dest="pythons",
        action="append",
        default=[],
        metavar="BIN",
        help="an interpreter; twice or more, the first is the reference",
    )
    duet.add_argument("--kit", type=Path, help="where the texts come from")
    duet.add_argument("--max-slowdown-pct", type=float, default=5.0, metavar="PCT")
    duet.add_argument("--threads", type=int, default=0)
    duet.add_argument("--quick", action="store_true", help="three replicates")
    duet.add_argument("--out", type=Path, help="folder of the report")
    _add_policy(duet)
    duet.set_defaults(run=_duet)

    baseline = commands.add_parser("baseline", help="keep a report as the baseline")
    save = baseline.add_subparsers(required=True, metavar="ACTION").add_parser(
        "save", help="copy a report that passed; refuses any other"
    )
    save.add_argument("report", type=Path, help="report.json of a run, or its folder")
    save.add_argument("--out", type=Path, default=Path("baseline.json"), help="file to write")
    save.set_defaults(run=_save_baseline)


def _add_using(commands: Commands) -> None:
    schema = commands.add_parser("schema", help="print the JSON Schema of a stored file")
    schema.add_argument("record", choices=SCHEMAS)
    schema.set_defaults(run=_schema)

    predict = commands.add_parser("predict", help="label texts with a bundle")
    predict.add_argument("bundle", type=Path)
    predict.add_argument("texts", nargs="*", help="texts; standard input, line by line, if none")
    predict.set_defaults(run=_predict)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", help="shipped recipe or TOML file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inconclusive",
        choices=("fail", "warn", "pass"),
        help="what an undecided verdict does; by default the exit code is 2",
    )


def _settings(arguments: argparse.Namespace) -> tuple[Settings, str]:
    return settings.load(arguments.recipe, Path.cwd(), arguments.overrides)


class Teller:
    """Prints progress lines with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        """Print one line."""
        print(f"{time.monotonic() - self._start:5.0f} s  {line}", flush=True)


def _run(arguments: argparse.Namespace) -> int:
    from optimize.build.pipeline import build
    from optimize.judge import baseline
    from optimize.judge.kit import read_kit
    from optimize.judge.measure import judge
    from optimize.judge.render import terminal, write_report

    chosen, source = _settings(arguments)
    tell = Teller()
    rival = None
    kit = read_kit(build(chosen, tell))
    if arguments.baseline is not None:
        candidate = chosen.regression.candidate
        found = baseline.find(arguments.baseline, candidate)
        options = _recipe_options(arguments)
        kit, rival = baseline.with_baseline(kit, found, candidate, options, tell)
        chosen = chosen.against_baseline(stored=found.report is not None)
    report = judge(kit, chosen, source, "quick" if arguments.quick else "full", tell, rival)
    write_report(report, arguments.out)
    width = shutil.get_terminal_size((160, 24)).columns
    print(terminal(report, width, colour=sys.stdout.isatty()))
    print(f"report: {arguments.out / 'report.json'}")
    return _exit_code(report.verdict, arguments)


def _build(arguments: argparse.Namespace) -> int:
    from optimize.build.pipeline import build
    from optimize.build.processes import Processes
    from optimize.build.profile import Profile

    chosen, _ = _settings(arguments)
    target: Path = arguments.out
    if target.exists() and not (target / KIT_NAME).is_file():
        raise FileExistsError(f"{target} exists and is not a kit; choose another folder with --out")
    profile = Profile()
    with profile.section("everything else"):
        kit = build(chosen, Teller(), profile=profile)
    if not Processes.launched().first:
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


def _tune(arguments: argparse.Namespace) -> int:
    try:
        from optimize.build.tune import front, recipe_toml, tune
    except ImportError as error:
        raise RuntimeError(f"{error}; `pip install optimize[build,tune]`") from error

    chosen, source = _settings(arguments)
    study = tune(chosen, arguments.storage, arguments.study, Teller())
    trials = front(study)
    for trial in trials:
        size = "" if len(trial.values) < 2 else f", {trial.values[1]:,.0f} parameters"
        print(f"trial {trial.number}: validation accuracy {trial.values[0]:.4f}{size}")
    base = arguments.recipe or DEFAULT_RECIPE
    arguments.out.write_text(recipe_toml(trials[0], base), encoding="utf-8")
    print(f"searched from {source}; the most accurate as a recipe: {arguments.out}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from optimize.judge.records import read_report
    from optimize.judge.render import svg, terminal

    report = read_report(arguments.file)
    if arguments.svg is not None:
        arguments.svg.write_text(svg(report), encoding="utf-8")
    else:
        width = shutil.get_terminal_size((160, 24)).columns
        print(terminal(report, width, colour=sys.stdout.isatty()))
    return EXIT_CODES[report.verdict]


def _compare(arguments: argparse.Namespace) -> int:
    from optimize.judge import compare
    from optimize.judge.render import plain_terminal, table_markdown

    runs = compare.read_runs(arguments.reports, arguments.variant)
    found = compare.changes(runs, arguments.variant, arguments.max_slowdown_pct)
    tables = [compare.run_table(runs, arguments.variant), compare.change_table(found)]
    lines = compare.text_lines(found)
    verdict = compare.verdict(found)
    print(plain_terminal(tables, [*lines, f"verdict: {verdict}"], colour=sys.stdout.isatty()))
    if arguments.out is not None:
        from optimize.judge.plots import plot_runs

        arguments.out.mkdir(parents=True, exist_ok=True)
        parts = [f"## Verdict: {verdict}", *map(table_markdown, tables), "\n".join(lines)]
        text = "\n\n".join(part for part in parts if part) + "\n"
        (arguments.out / "compare.md").write_text(text, encoding="utf-8")
        plot_runs(runs, arguments.variant, arguments.out / "compare.svg")
    return _exit_code(verdict, arguments)


def _duet(arguments: argparse.Namespace) -> int:
    from optimize.judge.duet import duet
    from optimize.judge.render import terminal, write_report

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


def _recipe_options(arguments: argparse.Namespace) -> list[str]:
    """The options that chose the recipe, for the build of a baseline's revision."""
    chosen = [] if arguments.recipe is None else ["--recipe", arguments.recipe]
    for override in arguments.overrides:
        chosen += ["--set", override]
    return chosen


def _save_baseline(arguments: argparse.Namespace) -> int:
    from optimize.judge.records import read_report
    from optimize.judge.report import complaints

    path: Path = arguments.report
    path = path / "report.json" if path.is_dir() else path
    report = read_report(path)
    if report.verdict != "pass":
        raise ValueError(
            f"{path} is not a pass ({report.verdict}); a baseline that is worse than its gates "
            "would let the next regression through:\n  " + "\n  ".join(complaints(report))
        )
    arguments.out.write_text(report.model_dump_json() + "\n", encoding="utf-8")
    print(f"baseline: {arguments.out} ({report.mode} mode, {report.created})")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    from pydantic import BaseModel

    from optimize.judge.records import Report
    from optimize.records import KitManifest, Manifest

    records: dict[str, type[BaseModel]] = {
        "bundle": Manifest,
        "kit": KitManifest,
        "report": Report,
        "recipe": Settings,
    }
    print(json.dumps(records[arguments.record].model_json_schema(), indent=1, sort_keys=True))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from optimize.build import checkpoint, data

    chosen, source = _settings(arguments)
    splits = data.load(chosen.data)
    if not chosen.teacher.fine_tune:
        names = checkpoint.label_names(chosen.teacher.checkpoint, chosen.teacher.revision)
        splits.ordered_as(names, f"the teacher {chosen.teacher.checkpoint}")
    print(f"settings: {source}")
    print(
        f"data: {len(splits.train)} train, {len(splits.validation)} validation, "
        f"{len(splits.test)} test texts; {len(splits.label_names)} labels"
    )
    print(f"gates: {', '.join(chosen.active_gates) or 'none'}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from optimize.runtime import Classifier

    classifier = Classifier(arguments.bundle)
    texts = arguments.texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    # One by one, as the bundle was judged: a batch shares its INT8 scales.
    for text in texts:
        ((label, probability),) = classifier.predict([text])
        print(f"{label}\t{probability:.4f}\t{text}")
    return 0
