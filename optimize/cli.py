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

from optimize import __version__, settings
from optimize.records import KIT_NAME
from optimize.settings import Settings

SCHEMAS = ("bundle", "kit", "report", "recipe")
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

    run = commands.add_parser("run", help="build, judge, and write the report")
    _add_recipe(run)
    run.add_argument("--quick", action="store_true", help="three replicates")
    run.add_argument("--out", type=Path, default=Path("report"), help="folder of the report")
    run.add_argument("--baseline", metavar="FILE|BUNDLE|git:REV", help="must not be worse than it")
    run.set_defaults(run=_run)

    build = commands.add_parser("build", help="build the kit, and in it the bundle to ship")
    _add_recipe(build)
    build.add_argument("--out", type=Path, default=Path("kit"), help="folder to write")
    build.set_defaults(run=_build)

    show = commands.add_parser("report", help="show a stored report")
    show.add_argument("file", type=Path, help="report.json of a run")
    show.add_argument("--svg", type=Path, help="write it as a picture instead")
    show.set_defaults(run=_report)

    baseline = commands.add_parser("baseline", help="keep a report as the baseline")
    save = baseline.add_subparsers(required=True, metavar="ACTION").add_parser(
        "save", help="copy a report that passed; refuses any other"
    )
    save.add_argument("report", type=Path, help="report.json of a run, or its folder")
    save.add_argument("--out", type=Path, default=Path("baseline.json"), help="file to write")
    save.set_defaults(run=_save_baseline)

    schema = commands.add_parser("schema", help="print the JSON Schema of a stored file")
    schema.add_argument("record", choices=SCHEMAS)
    schema.set_defaults(run=_schema)

    check = commands.add_parser("check", help="check recipe and data; trains nothing")
    _add_recipe(check)
    check.set_defaults(run=_check)

    predict = commands.add_parser("predict", help="label texts with a bundle")
    predict.add_argument("bundle", type=Path)
    predict.add_argument("texts", nargs="*", help="texts; standard input, line by line, if none")
    predict.set_defaults(run=_predict)
    return parser


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", help="shipped recipe or TOML file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")


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
    return EXIT_CODES[report.verdict]


def _build(arguments: argparse.Namespace) -> int:
    from optimize.build.pipeline import build

    chosen, _ = _settings(arguments)
    target: Path = arguments.out
    if target.exists() and not (target / KIT_NAME).is_file():
        raise FileExistsError(f"{target} exists and is not a kit; choose another folder with --out")
    kit = build(chosen, Teller())
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        shutil.copytree(kit, Path(work, "kit"))
        if target.exists():
            target.rename(Path(work, "old"))
        Path(work, "kit").rename(target)
    print(f"kit: {arguments.out}\nbundle: {arguments.out / 'student-int8'}")
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
