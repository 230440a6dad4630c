"""Progress for a person: bars with the time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from optimize.escape import for_terminal
from optimize.workspace import Detail, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

WHOLE = "build"
# Where there are no bars: seconds of silence after which the share that is done makes a line.
FIRST_LINE_S, NEXT_LINE_S = 30.0, 60.0


@dataclass
class _Pace:
    """Of one name: when its work began and how far it was then, how far it is, its last line."""

    began: float
    done: float
    told: float
    now: float = 0.0
    lines: int = 0


class Teller:
    """Tells lines with the seconds since the start; in a terminal, work that goes on as bars.

    A line is ``NAME: WORDS``. One that knows how far its work is (:class:`Progress`) moves the bar
    of its name, and the bar goes when the work is done. Used as a context, it leaves the terminal
    as it was.

    Args:
        stream: to write to; standard output if not given.
        quiet: tell nothing at all.
        verbose: tell details too.
        indent: put before each line.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        verbose: bool = False,
        indent: str = "",
    ) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._quiet, self._verbose, self._indent = quiet, verbose, indent
        self._start = time.monotonic()
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._paces: dict[str, _Pace] = {}

    def __enter__(self) -> Teller:
        """Bars from here on, where the stream is a terminal."""
        first = os.environ.get("RANK", "0") == "0"  # of processes that train together, one shows
        if first and not self._quiet and self._stream.isatty():
            bars = _bars(self._stream)
            if bars.console.is_terminal and not bars.console.is_dumb_terminal:
                self._bars = bars
                bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """No bars any more."""
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}

    def __call__(self, line: str) -> None:
        """Tell one line."""
        if self._quiet or (isinstance(line, Detail) and not self._verbose):
            return
        if self._bars is None:
            told = self._due(line) if isinstance(line, Progress) else line
            if told:
                print(self._shown(told), file=self._stream, flush=True)
        elif isinstance(line, Progress):
            self._move(self._bars, line)
        else:
            name = line.partition(": ")[0]
            if name in self._tasks:
                self._bars.remove_task(self._tasks.pop(name))
            self._bars.console.print(self._shown(line), markup=False, highlight=False)

    def _due(self, line: Progress) -> str:
        """The line, where it is more than a bar's or nothing was told for long; else nothing."""
        now, name = time.monotonic(), line.partition(": ")[0]
        pace = self._paces.setdefault(name, _Pace(now, line.done, now))
        if line.done < pace.now:  # another work of that name
            pace = self._paces[name] = _Pace(now, line.done, now)
        pace.now = line.done
        silence = FIRST_LINE_S if pace.lines == 0 else NEXT_LINE_S
        if line.passing and (name == WHOLE or line.done >= 1 or now - pace.told < silence):
            return ""
        pace.told, pace.lines = now, pace.lines + 1
        if not line.passing or line.done <= pace.done:
            return line
        left = (now - pace.began) * (1 - line.done) / (line.done - pace.done)
        return f"{line}, about {left:.0f} s left"

    def _shown(self, line: str) -> str:
        told = f"{self._indent}{time.monotonic() - self._start:5.0f} s  {for_terminal(line)}"
        # What the terminal's encoding lacks is told by its number, and ends no run.
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return told.encode(encoding, "backslashreplace").decode(encoding)

    def _move(self, bars: Bars, line: Progress) -> None:
        name, _, words = for_terminal(line).partition(": ")
        if name not in self._tasks:
            # Nested: the whole is first, and what it waits for below.
            shown = name if name == WHOLE else f"  {name}"
            self._tasks[name] = bars.add_task(shown, total=1.0, words="")
        bars.update(self._tasks[name], completed=line.done, words=words)
        if line.done >= 1:
            bars.remove_task(self._tasks.pop(name))


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        console=Console(file=stream),
        transient=True,
        redirect_stdout=stream is sys.stdout,
        redirect_stderr=stream is sys.stderr,
        refresh_per_second=4,
    )
