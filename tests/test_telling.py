"""Bars in a terminal, plain lines elsewhere, and nothing where one wants quiet."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from optimize.telling import Teller
from optimize.workspace import Detail, Progress, behind

SCRIPT = """
import time
from optimize.telling import Teller
from optimize.workspace import Progress, behind
with Teller() as tell:
    tell("teacher: building")
    for step in range(1, 11):
        tell(behind("teacher", Progress(f"step {step} of 10", step / 10, passing=True)))
        time.sleep(0.06)
    tell("teacher: built in 1 s")
    tell("\\x1b]0;evil\\x07[red]text[/red]")
print("after")
"""


def told(*lines, **options):
    stream = io.StringIO()
    with Teller(stream, **options) as tell:
        for line in lines:
            tell(line)
    return stream.getvalue().splitlines()


def test_where_there_is_no_terminal_lines_are_plain():
    found = told(
        "teacher: building", Progress("teacher: epoch 1 of 2", 0.5), "\x1b[31mred", indent="  "
    )
    assert [re.sub(r"^ +\d+ s  ", "", line) for line in found] == [
        "teacher: building", "teacher: epoch 1 of 2", r"\x1b[31mred",
    ]  # fmt: skip
    assert all(line.startswith("  ") for line in found)


def test_what_is_for_a_bar_alone_makes_no_line():
    assert told(Progress("teacher: step 3", 0.1, passing=True)) == []


def test_without_bars_a_long_silence_ends_with_the_time_that_is_left(monkeypatch):
    """A log of CI: a line after half a minute, then one a minute, each with an estimate."""
    clock = [100.0]
    monkeypatch.setattr("optimize.telling.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    tell = Teller(stream)
    for second in range(201):
        clock[0] = 100.0 + second
        tell(Progress(f"student: step {second} of 400", second / 400, passing=True))
        tell(Progress("build: 1 of 9 stages built", 0.1, passing=True))
    found = stream.getvalue().splitlines()
    assert [re.sub(r"^ +\d+ s  ", "", line) for line in found] == [
        "student: step 30 of 400, about 370 s left",
        "student: step 90 of 400, about 310 s left",
        "student: step 150 of 400, about 250 s left",
    ]
    clock[0] += 59
    tell(Progress("student: epoch 1 of 2", 0.5))
    tell(Progress("student: step 201 of 400", 0.5025, passing=True))
    assert stream.getvalue().splitlines()[3:] == ["  259 s  student: epoch 1 of 2"]
    for second in range(40):  # a search trains one student after the other
        clock[0] += 1
        tell(Progress(f"student: step {second} of 100", second / 100, passing=True))
    assert stream.getvalue().splitlines()[4:] == [
        "  290 s  student: step 30 of 100, about 70 s left"
    ]


@pytest.mark.parametrize(
    ("options", "lines"), [({}, 1), ({"verbose": True}, 2), ({"quiet": True}, 0)]
)
def test_details_and_quiet(options, lines):
    assert len(told(Detail("kit: in the cache"), "kit: building", **options)) == lines


@pytest.mark.parametrize(("share", "kept"), [(-1, 0.0), (0.3, 0.3), (7, 1.0)])
def test_a_share_stays_within_its_bounds_behind_a_name(share, kept):
    found = behind("student", Progress("x", share, passing=True))
    assert (found, found.done, found.passing) == ("student: x", kept, True)
    assert type(behind("student", "x")) is str


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [200, 30])
def test_a_terminal_shows_bars_and_is_left_as_it_was(columns):
    """Wide and small; the escapes of others' texts do not act, nor does markup."""
    main, side = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=side,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"},
    )  # fmt: skip
    os.close(side)
    content = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        content += piece
    assert run.wait() == 0
    shown = content.decode()
    assert "━" in shown
    assert "\x1b[?25h" in shown.split("after")[0]  # the cursor is back
    assert "\x1b]0;evil" not in shown
    assert "[red]text" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\s", "", shown)
    assert shown.rstrip().endswith("after")
