"""What the command ``optimize`` takes; help is instant, since nothing heavy is imported."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from optimize import __version__
from optimize.cli.examples import epilog

SHELLS = ("bash", "zsh", "tcsh")
SCHEMAS = ("bundle", "kit", "report", "recipe")
Commands = Any  # argparse names the type of its subparsers with an underscore
Runners = Mapping[str, Callable[[argparse.Namespace], int]]


def build_parser(runners: Runners) -> argparse.ArgumentParser:
    """The parser of every command.

    Args:
        runners: what carries out each command, by its name.
    """
    parser = argparse.ArgumentParser(
        prog="optimize",
        description="Make a text classifier small and fast, and prove that it stayed right.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_making(commands, runners)
    _add_searching(commands, runners)
    _add_judging(commands, runners)
    _add_using(commands, runners)
    for name, line, command in every_command(parser):
        command.epilog = epilog(name)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.description = command.description or f"{line[0].upper()}{line[1:]}."
    return parser


def every_command(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each command and action of a command: its name, its line in the list, and its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {each.dest: each.help or "" for each in action._choices_actions}
            for name, command in action.choices.items():
                yield name, lines[name], command
                for inner, line, nested in every_command(command):
                    yield f"{name} {inner}", line, nested


def _add_making(commands: Commands, runners: Runners) -> None:
    run = commands.add_parser("run", help="build, judge, and write the report")
    _add_recipe(run)
    run.add_argument("--quick", action="store_true", help="three replicates")
    run.add_argument("--out", type=Path, default=Path("report"), help="folder of the report")
    run.add_argument("--baseline", metavar="FILE|BUNDLE|git:REV", help="must not be worse than it")
    _add_policy(run)
    _add_telling(run)
    run.set_defaults(run=runners["run"])

    build = commands.add_parser("build", help="build the kit, and in it the bundle to ship")
    _add_recipe(build)
    build.add_argument("--out", type=Path, default=Path("kit"), help="folder to write")
    build.add_argument("--profile", action="store_true", help="print where the time goes")
    build.add_argument(
        "--explain", metavar="STAGE", help="print what its key is made of; builds nothing"
    )
    build.add_argument(
        "--why",
        metavar="STAGE",
        nargs="?",
        const="",
        help="print what differs from the newest one in the cache, of all stages if none is named",
    )
    _add_telling(build)
    build.set_defaults(run=runners["build"])

    adopt = commands.add_parser("adopt", help="make a bundle of a model that was built elsewhere")
    adopt.add_argument(
        "model", type=Path, help="folder of a checkpoint, or of an ONNX model as optimum writes it"
    )
    adopt.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    adopt.add_argument(
        "--max-length", type=int, metavar="TOKENS", help="longest input; what its files say if not"
    )
    adopt.add_argument("--pairs", action="store_true", help="an input is a pair of texts")
    adopt.set_defaults(run=runners["adopt"])

    cache = commands.add_parser("cache", help="show the stages in the cache, or prune them")
    cache.add_argument(
        "--older-than", type=_days, metavar="DAYS", help="remove what was not used for so long"
    )
    cache.add_argument("--keep-kits", action="store_true", help="remove no kit")
    cache.set_defaults(run=runners["cache"])

    init = commands.add_parser(
        "init", help="look at data and a checkpoint, and write a first recipe for them"
    )
    init.add_argument("data", help="a file or folder of texts with labels")
    init.add_argument("checkpoint", nargs="?", help="the teacher; the sample's when absent")
    init.add_argument(
        "--minutes", type=_minutes, default=20.0, help="that a build may take here (20)"
    )
    init.add_argument("--out", type=Path, default=Path("recipe.toml"), help="file to write")
    init.set_defaults(run=runners["init"])

    check = commands.add_parser("check", help="check recipe and data; trains nothing")
    _add_recipe(check)
    check.add_argument("--json", action="store_true", help="for machines")
    check.set_defaults(run=runners["check"])


def _add_searching(commands: Commands, runners: Runners) -> None:
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
    _add_telling(tune)
    tune.set_defaults(run=runners["tune"])

    search = commands.add_parser(
        "search", help="search the smallest and fastest shape that keeps the gates"
    )
    _add_recipe(search)
    search.add_argument(
        "--minutes", type=_minutes, help="begin no training later; what was found by then is told"
    )
    search.add_argument("--out", type=Path, default=Path("search"), help="folder to write")
    _add_telling(search)
    search.set_defaults(run=runners["search"])

    nodes = commands.add_parser("sensitivity", help="what each node of the student costs in INT8")
    _add_recipe(nodes)
    nodes.add_argument(
        "--until",
        type=float,
        metavar="PP",
        help="name nodes to leave in fp32, until no more is lost",
    )
    nodes.add_argument("--plot", type=Path, metavar="FILE", help="write the costs as a picture")
    _add_telling(nodes)
    nodes.set_defaults(run=runners["sensitivity"])


def _add_judging(commands: Commands, runners: Runners) -> None:
    show = commands.add_parser("report", help="show a stored report")
    show.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="REPORT",
        help="report.json of a run; of several the newest is shown, the others are its history",
    )
    show.add_argument("--svg", type=Path, metavar="FILE", help="write it as a picture instead")
    show.add_argument("--html", type=Path, metavar="FILE", help="write it as a page instead")
    show.add_argument(
        "--sensitivity",
        type=Path,
        metavar="FILE",
        help="of `optimize sensitivity --json`, for the page",
    )
    show.add_argument("--json", action="store_true", help="the verdict and its gates, for machines")
    show.set_defaults(run=runners["report"])

    compare = commands.add_parser("compare", help="reports of several onnxruntimes side by side")
    compare.add_argument("reports", nargs="+", type=Path, help="report.json, or their folders")
    compare.add_argument("--variant", default="student-int8", help="the one to compare")
    compare.add_argument("--max-slowdown-pct", type=_percent, default=5.0, metavar="PCT")
    compare.add_argument("--out", type=Path, help="write compare.md and compare.svg here")
    _add_policy(compare)
    compare.set_defaults(run=runners["compare"])

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
    duet.add_argument("--max-slowdown-pct", type=_percent, default=5.0, metavar="PCT")
    duet.add_argument("--threads", type=int, default=0)
    duet.add_argument("--quick", action="store_true", help="three replicates")
    duet.add_argument("--out", type=Path, help="folder of the report")
    _add_policy(duet)
    _add_telling(duet)
    duet.set_defaults(run=runners["duet"])

    baseline = commands.add_parser("baseline", help="keep a report as the baseline")
    save = baseline.add_subparsers(required=True, metavar="ACTION").add_parser(
        "save", help="copy a report that passed; refuses any other"
    )
    save.add_argument(
        "reports",
        nargs="*",
        type=Path,
        metavar="REPORT",
        help="report.json of a run, or its folder; further ones are runs of the same models, which "
        "tell what two runs differ by",
    )
    save.add_argument("--runs", type=int, default=0, metavar="N", help="measure so many runs now")
    save.add_argument("--kit", type=Path, help="of these runs; built from the recipe when absent")
    save.add_argument("--quick", action="store_true", help="three replicates a run")
    _add_recipe(save)
    save.add_argument("--out", type=Path, default=Path("baseline.json"), help="file to write")
    save.set_defaults(run=runners["baseline"])


def _add_using(commands: Commands, runners: Runners) -> None:
    schema = commands.add_parser("schema", help="print the JSON Schema of a stored file")
    schema.add_argument("record", choices=SCHEMAS)
    schema.set_defaults(run=runners["schema"])

    push = commands.add_parser("push", help="put a bundle on the Hub, with its card and report")
    push.add_argument("bundle", type=Path)
    push.add_argument("repository", metavar="OWNER/NAME")
    push.add_argument("--report", type=Path, help="report.json of the run that judged it")
    push.add_argument("--private", action="store_true", help="where the repository is made anew")
    push.add_argument("--yes", action="store_true", help="upload; without it, show what would be")
    push.set_defaults(run=runners["push"])

    doctor = commands.add_parser(
        "doctor", help="what this machine is, and whether it is quiet enough to judge"
    )
    doctor.add_argument(
        "--seconds", type=_seconds, default=30.0, help="that the noise is measured for (30)"
    )
    doctor.set_defaults(run=runners["doctor"])

    predict = commands.add_parser("predict", help="label texts with a bundle")
    predict.add_argument("bundle", type=Path)
    predict.add_argument("texts", nargs="*", help="texts; standard input, line by line, if none")
    predict.add_argument(
        "--untrusted",
        action="store_true",
        help="a stranger's bundle: run it in a process with limits on time and memory",
    )
    predict.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="that loading, and each answer, may take; brings the process with limits too",
    )
    predict.add_argument("--json", action="store_true", help="a JSON object a text")
    predict.set_defaults(run=runners["predict"])

    completion = commands.add_parser("completion", help="print a script that completes commands")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run=runners["completion"])


def _seconds(text: str) -> float:
    return _number(text, "seconds")


def _minutes(text: str) -> float:
    return _number(text, "minutes", zero=True)


def _days(text: str) -> float:
    return _number(text, "days", zero=True)


def _percent(text: str) -> float:
    return _number(text, "percent", zero=True)


def _number(text: str, unit: str, *, zero: bool = False) -> float:
    """A number above 0, or of 0 where that says something, that has an end.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 < value < float("inf") or (zero and value == 0)):
        least = "of 0 or more" if zero else "above 0"
        raise argparse.ArgumentTypeError(f"{text} is no number of {unit} {least}")
    return value


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", help="shipped recipe or TOML file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")


def _add_telling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, only the result")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="tell of stages that are in the cache too"
    )
    parser.add_argument(
        "--json", action="store_true", help="the result for machines; progress on standard error"
    )


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inconclusive",
        choices=("fail", "warn", "pass"),
        help="what an undecided verdict does; by default the exit code is 6",
    )
