"""Lines to a child process and back, each within a deadline, on every system.

A thread reads and another writes, and the caller waits: pipes cannot be waited for with a deadline
on Windows. All of them sleep while the child is measured.
"""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from contextlib import suppress

CHUNK_BYTES = 1 << 16
CLOSE_S = 2.0


class LinesError(RuntimeError):
    """The child did not take a line, or gave none."""


class Deadline:
    """So many seconds from now on.

    Args:
        seconds: until it is over.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._end - time.monotonic())


class Lines:
    """The pipes of a child process.

    Args:
        process: started with pipes for standard input and output.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise LinesError("there is no pipe to it")
        self._input, self._output = process.stdin, process.stdout
        # At most one chunk ahead of whoever asks: a child that babbles is held up, and not kept.
        self._chunks: queue.Queue[bytes] = queue.Queue(maxsize=1)
        self._left = b""
        self._closed = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def send(self, content: bytes, deadline: Deadline) -> None:
        """Write; a child that reads nothing is given up, also where a pipe holds less.

        Raises:
            LinesError: it ended, or took it not in time.
        """
        failed: list[OSError] = []

        def write() -> None:
            try:
                self._input.write(content)
                self._input.flush()
            except (OSError, ValueError) as error:
                failed.append(OSError(str(error)))

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        writer.join(deadline.left_s)
        if writer.is_alive():
            raise LinesError(f"it took no request in {deadline.seconds:g} s")
        if failed:
            raise LinesError("it ended before it was asked")

    def read(self, deadline: Deadline, most_bytes: int) -> bytes:
        """The next line, without its end.

        Raises:
            LinesError: there is none in time, it is larger than allowed, or the child ended.
        """
        pieces, size = [self._left], len(self._left)
        while b"\n" not in pieces[-1]:
            try:
                chunk = self._chunks.get(timeout=deadline.left_s)
            except queue.Empty:
                whole = "whole " if size else ""
                raise LinesError(f"no {whole}answer in {deadline.seconds:g} s") from None
            if not chunk:
                raise LinesError("it ended without an answer")
            pieces.append(chunk)
            size += len(chunk)
            if size > most_bytes:
                raise LinesError(f"its answer has no end after {size:,} bytes")
        line, _, self._left = b"".join(pieces).partition(b"\n")
        return line

    def close(self) -> None:
        """Close both pipes; call it when the child has ended."""
        self._closed = True
        with suppress(queue.Empty):
            self._chunks.get_nowait()  # the listener may wait for room
        with suppress(OSError, ValueError):
            self._input.close()
        self._listener.join(CLOSE_S)
        # A process that the child left behind may hold the other end, and reading goes on: to close
        # what is being read would wait for that.
        if not self._listener.is_alive():
            with suppress(OSError, ValueError):
                self._output.close()

    def _listen(self) -> None:
        chunk = b"-"
        while chunk and not self._closed:
            try:
                chunk = self._output.read1(CHUNK_BYTES)  # type: ignore[attr-defined]
            except (OSError, ValueError):
                chunk = b""
            self._put(chunk)

    def _put(self, chunk: bytes) -> None:
        while not self._closed:
            with suppress(queue.Full):
                self._chunks.put(chunk, timeout=1.0)
                return
