"""The command ``optimize``: which function carries out what, and what becomes of an error."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from optimize.cli import doctor, judging, making, publishing, searching, using
from optimize.cli.arguments import build_parser
from optimize.escape import lines_for_terminal

BROKEN_PIPE = 141  # as a shell tells SIGPIPE
EXTRAS = dict.fromkeys(("run", "build", "init", "check", "cache"), "build") | {
    "adopt": "build",
    "baseline": "build",
    "tune": "build,tune",
    "search": "build",
    "sensitivity": "build",
}
# Of a module, whatever the command.
EXTRA_OF = {"matplotlib": "plot", "sklearn": "linear", "optimum": "optimum", "optuna": "tune"}
RUNNERS = {
    "run": making.run,
    "build": making.build,
    "adopt": making.adopt,
    "cache": making.cache,
    "tune": searching.tune,
    "search": searching.search,
    "sensitivity": searching.sensitivity,
    "init": making.init,
    "check": making.check,
    "report": judging.report,
    "compare": judging.compare,
    "duet": judging.duet,
    "baseline": judging.save_baseline,
    "push": publishing.push,
    "schema": using.schema,
    "doctor": doctor.doctor,
    "predict": using.predict,
    "completion": using.completion,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parsed(argv)
    _show_any_character()
    shown = warnings.showwarning
    warnings.showwarning = partial(_warn, shown)
    try:
        return _code_of(arguments)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on from there", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if arguments.debug:
            raise
        extra = EXTRA_OF.get(error.name or "", EXTRAS.get(arguments.command, "judge"))
        print(
            f"optimize: {error}; the command {arguments.command!r} needs an extra: "
            f"`pip install optimize[{extra}]`",
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


def _code_of(arguments: argparse.Namespace) -> int:
    """Run the command, and have all that it printed read."""
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has read enough; Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _show_any_character() -> None:
    """What a stream's encoding lacks is shown by its number, rather than nothing at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; texts may also follow an option, which argparse alone would refuse."""
    parser = build_parser(RUNNERS)
    arguments, left = parser.parse_known_args(argv)
    if left and (arguments.command != "predict" or any(word.startswith("-") for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        arguments.texts += left
    return arguments


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
