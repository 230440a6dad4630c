"""What several commands share: settings, progress, exit codes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.telling import Teller

if TYPE_CHECKING:
    from optimize.judge.request import Request
    from optimize.settings.recipe import Settings


# pytest's own codes are 0 to 5, and an undecided run has the same code there.
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 6}


def settings_of(arguments: argparse.Namespace) -> tuple[Settings, str]:
    """The settings that a command names, and the words for where they came from."""
    from optimize import settings

    return settings.load(arguments.recipe, Path.cwd(), arguments.overrides)


def request_of(arguments: argparse.Namespace, **more: Any) -> Request:
    """What a command asks to be judged; ``more`` are the fields that not every command has."""
    from optimize.judge.request import Request

    return Request(
        project=Path.cwd(),
        recipe=arguments.recipe,
        overrides=tuple(arguments.overrides),
        quick=arguments.quick,
        **more,
    )


def teller_of(arguments: argparse.Namespace) -> Teller:
    """Who tells the progress of a command, as it was asked; a context of bars."""
    stream = sys.stderr if arguments.json else None
    return Teller(stream, quiet=arguments.quiet, verbose=arguments.verbose)


def exit_code(verdict: str, arguments: argparse.Namespace) -> int:
    """The verdict's, or what ``--inconclusive`` makes of an undecided one."""
    policy = arguments.inconclusive
    if verdict != "inconclusive" or policy is None:
        return EXIT_CODES[verdict]
    if policy == "warn":
        print("optimize: the verdict is INCONCLUSIVE", file=sys.stderr)
    return EXIT_CODES["fail" if policy == "fail" else "pass"]
