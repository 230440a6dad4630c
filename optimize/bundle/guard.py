"""A stranger's bundle in a process of its own, with limits on time and memory.

``Classifier`` refuses what a bundle may not ask for. It cannot tell how long a model runs or how
much memory it takes: a loop may have no end, and a shape may be as large as it likes. Here a child
process holds the model, and is ended where it passes a limit.

One JSON value a line: the first from the child says that it is ready, then a text in and an answer
out. The child runs no other code than the bundle's model, but that in ONNX Runtime's C++: against a
fault of that, only a container helps (SECURITY.md).
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from optimize.bundle.classifier import AnswerError, Classifier
from optimize.bundle.folder import BundleError
from optimize.bundle.manifest import LabelSet
from optimize.bundle.remote import folder_of
from optimize.bundle.texts import Text

TIMEOUT_S = 30.0
MEMORY_BYTES = 4 << 30
LAST_WORDS = 400
LISTEN_S, READ_BYTES = 2.0, 1 << 16
# The folder that one stands in comes first on Python's path, and may be the stranger's: it is taken
# off before anything is imported that is no part of the interpreter itself.
START = f"""
import sys
sys.path[:] = [path for path in sys.path if path]
import runpy
runpy.run_module({__name__!r}, run_name="__main__")
"""


class GuardError(BundleError):
    """A bundle that passed a limit, or ended its process; says which and what was asked."""


@contextmanager
def guarded(
    bundle: Path, *, timeout_s: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES
) -> Iterator[Guard]:
    """A bundle's classifier in a child process, which ends with the block.

    Args:
        bundle: its folder.
        timeout_s: seconds that loading it, and each answer, may take.
        memory_bytes: address space of the child, where the system can limit it (not on Windows).

    Raises:
        BundleError: it is not to be loaded.
        GuardError: it passed a limit meanwhile.
    """
    folder = folder_of(bundle, None).resolve()
    command = [sys.executable, "-c", START, str(folder), str(memory_bytes)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        guard = Guard(child, timeout_s)
        try:
            guard.text_pair = bool(guard.read("loading the bundle"))
            yield guard
        finally:
            child.kill()


class Guard:
    """Asks the child, and ends it where it is silent for too long.

    Attributes:
        text_pair: whether the bundle takes pairs of texts.
    """

    text_pair = False

    def __init__(self, child: subprocess.Popen[bytes], timeout_s: float) -> None:
        self._child, self._timeout_s = child, timeout_s
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._said = bytearray()
        self._overhearing = threading.Thread(target=self._overhear, daemon=True)
        self._overhearing.start()
        threading.Thread(target=self._listen, daemon=True).start()

    def predict(self, text: Text) -> LabelSet:
        """The labels of one text, or pair of texts.

        Raises:
            AnswerError: the bundle has none; see :meth:`Classifier.logits`.
            GuardError: it passed a limit.
            TypeError: it is no pair, and the bundle takes pairs; or the other way round.
            ValueError: the text holds half a character.
        """
        pipe = self._child.stdin
        with suppress(BrokenPipeError):  # the end of the child is told below
            if pipe is not None:
                pipe.write(json.dumps(text).encode() + b"\n")
                pipe.flush()
        return LabelSet(*map(tuple, self.read("answering a text")))

    def read(self, doing: str) -> Any:
        """The next answer, while the child does what ``doing`` says."""
        try:
            line = self._answers.get(timeout=self._timeout_s)
        except queue.Empty:
            self._child.kill()
            raise GuardError(
                f"the bundle took more than {self._timeout_s:g} s for {doing}: it was stopped. "
                "Give it more with --timeout, or do not use it"
            ) from None
        if not line:
            raise GuardError(
                f"the bundle's process ended while {doing}, with code {self._child.wait()}; it "
                f"may have passed its limit of memory. {self._last_words()}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise ERRORS[answer["kind"]](answer["error"])
        return answer["value"]

    def _listen(self) -> None:
        stream: IO[bytes] | None = self._child.stdout
        for line in stream or ():
            self._answers.put(line)
        self._answers.put(b"")

    def _overhear(self) -> None:
        """Read what libraries print: a child that nobody listens to waits when the pipe is full."""
        stream = self._child.stderr
        with suppress(OSError, ValueError):  # closed, when the block ends
            while stream is not None and (said := os.read(stream.fileno(), READ_BYTES)):
                self._said = (self._said + said)[-LAST_WORDS:]

    def _last_words(self) -> str:
        self._overhearing.join(LISTEN_S)
        words = self._said.decode(errors="replace").strip()
        return f"Its last words: {words}" if words else ""


ERRORS: dict[str, type[ValueError | TypeError]] = {
    "answer": AnswerError,
    "bundle": BundleError,
    "text": ValueError,
    "type": TypeError,
}


def _kind(error: Exception) -> str:
    if isinstance(error, AnswerError):
        return "answer"
    if isinstance(error, BundleError | MemoryError):
        return "bundle"
    return "type" if isinstance(error, TypeError) else "text"


def _limit_memory(most: int) -> None:
    """Address space of this process, from here on."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _serve(bundle: str, memory_bytes: int) -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to standard error

    def say(**answer: Any) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    _limit_memory(memory_bytes)
    try:
        # One thread: its stack and arena count too.
        classifier = Classifier(bundle, threads=1)
        say(value=classifier.manifest.text_pair)
    except (ValueError, MemoryError) as error:
        say(error=str(error) or "its memory does not suffice to load it", kind="bundle")
        return
    for line in sys.stdin:
        say(**_answer(classifier, json.loads(line)))


def _answer(classifier: Classifier, text: Text) -> dict[str, Any]:
    try:
        return {"value": classifier.predict_sets([text])[0]}
    except (ValueError, TypeError, MemoryError) as error:
        words = str(error) or "its memory does not suffice to answer"
        return {"error": words, "kind": _kind(error)}


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
