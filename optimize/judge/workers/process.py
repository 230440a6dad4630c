"""The parent's side of a worker: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from optimize.judge.workers.answers import fault_of
from optimize.judge.workers.lines import Deadline, Lines, LinesError
from optimize.judge.workers.worker import PROTOCOL
from optimize.machine import is_asleep
from optimize.memory import remedy

PACKAGE = Path(__file__).resolve().parents[2]
WORKER_MODULE = "optimize.judge.workers.worker"
# A worker that is silent this long is taken for hung. Loading torch on a busy machine takes
# tens of seconds.
ANSWER_TIMEOUT_S = 600.0
# Predictions of a million texts have some 30 MB.
LARGEST_ANSWER = 1 << 28
SHOWN_BYTES = 80
# How long to wait for a worker's threads to sleep, and how often to look.
SETTLE_S = 1.0
# A child that ended is waited for so long, to tell how; and what the kernel does to a greedy one.
END_S, KILLED = 1.0, -9
SETTLE_STEP_S = 0.0005
# Python code that makes the package of this folder importable, and nothing that lies beside it.
BORROW = f"""
import importlib.util, sys
place = {str(PACKAGE)!r}
spec = importlib.util.spec_from_file_location(
    {PACKAGE.name!r}, place + "/__init__.py", submodule_search_locations=[place]
)
sys.modules[spec.name] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
""".strip()
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerError(RuntimeError):
    """A worker that did not start, answer, or speak this protocol; holds what it printed."""


@dataclass(frozen=True)
class WorkerSpec:
    """How to start one worker.

    Attributes:
        name: for messages and results.
        folder: the variant's folder.
        threads: of every inference.
        command: interpreter and module. Another interpreter is another onnxruntime; it needs the
            base layer's dependencies only, since the code of this package comes from here.
        repeats: for a control, the worker that it is a second one of.
        starts_alone: whether every start-up counts, so that each needs the cores to itself.
        spins: whether its threads spin for each other inside a call, as OpenMP's do in PyTorch.
    """

    name: str
    folder: Path
    threads: int
    command: tuple[str, ...] = (sys.executable, "-m", WORKER_MODULE)
    repeats: str | None = None
    starts_alone: bool = True
    spins: bool = False


class WorkerProcess:
    """A running worker. Use as a context manager; leaving it ends the child.

    Args:
        spec: what to start.
        text: the first text it answers, which ends its start-up.

    Raises:
        WorkerError: it failed, with what it wrote to standard error.
    """

    def __init__(self, spec: WorkerSpec, text: str) -> None:
        self.spec = spec
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 — lives as long as the child
        started = time.perf_counter()
        self._process = subprocess.Popen(
            spec.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=child_environment(spec.command[0], spec.threads),
        )
        self._lines = Lines(self._process)
        try:
            first = {"folder": str(spec.folder), "threads": spec.threads, "text": text}
            self.about = self._exchange(first)
            self.startup_s = time.perf_counter() - started
            self._check_protocol()
            self._checked("ready", self.about)
        except BaseException:
            self.close()
            raise

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """One request, one answer.

        Raises:
            WorkerError: it failed or died, or what it said is no answer to this.
        """
        return self._checked(op, self._exchange({"op": op, **arguments}))

    def _checked(self, op: str, answer: dict[str, Any]) -> dict[str, Any]:
        if fault := fault_of(op, answer):
            raise self._failed(f"its answer to {op!r} is none: {fault}")
        return answer

    def close(self) -> None:
        """End the child and wait for it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._lines.close()
        self._errors.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_protocol(self) -> None:
        theirs = self.about.get("protocol")
        if theirs != PROTOCOL:
            raise WorkerError(
                f"worker {self.spec.name} speaks protocol {theirs}, this judge {PROTOCOL}: install "
                f"the same version of optimize for {self.spec.command[0]}"
            )

    def settle(self) -> None:
        """Wait until every thread of the child sleeps, for a second at most.

        PyTorch's OpenMP threads spin on after a call, and would take the cores from the worker that
        is measured next.
        """
        end = time.monotonic() + SETTLE_S
        while not is_asleep(self._process.pid) and time.monotonic() < end:
            time.sleep(SETTLE_STEP_S)

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and read the answer's line, both within one deadline."""
        deadline = Deadline(ANSWER_TIMEOUT_S)
        try:
            self._lines.send(json.dumps(request).encode() + b"\n", deadline)
            line = self._lines.read(deadline, LARGEST_ANSWER)
        except LinesError as error:
            raise self._failed(f"{error}{self._end()}") from None
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise self._failed(f"it answered {line[:SHOWN_BYTES]!r}, which is no JSON") from None
        if not isinstance(answer, dict):
            raise self._failed(f"it answered {line[:SHOWN_BYTES]!r}, which is no JSON object")
        if "error" in answer:
            raise self._failed(str(answer["error"]))
        return answer

    def _end(self) -> str:
        """How the child ended, if it has."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(END_S)
            if code == KILLED:
                return f" (killed by signal {-code}, as where memory runs out: {remedy('')})"
            return f" ({f'killed by signal {-code}' if code < 0 else f'exit code {code}'})"
        return ""

    def _failed(self, why: str) -> WorkerError:
        self._errors.seek(0)
        printed = self._errors.read().decode(errors="replace").strip().splitlines()[-15:]
        tail = "\n".join(f"    {line}" for line in printed)
        return WorkerError(
            f"worker {self.spec.name} ({' '.join(self.spec.command)}): {why}"
            + (f"\n  its last words:\n{tail}" if tail else "")
        )


def command_of(python: str, module: str) -> tuple[str, ...]:
    """How an interpreter runs a module of this very package.

    Another interpreter is handed the package alone, by its folder: beside an installed one lie the
    libraries of this interpreter, and it must load its own.
    """
    if python == sys.executable:
        return (python, "-m", module)
    return (python, "-c", f"{BORROW}\nimport runpy\nrunpy.run_module({module!r}, None, '__main__')")


def child_environment(python: str, threads: int) -> dict[str, str]:
    """A child's environment: thread counts set before any library reads them, no network.

    Args:
        python: its interpreter; another one is not told where libraries of this one are.
        threads: of every inference.
    """
    counts = dict.fromkeys(THREAD_VARIABLES, str(threads))
    environment = {
        **os.environ,
        **counts,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # A variant's folder holds what its manifest lists, and no compiled module beside it.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = environment.pop("PYTHONPATH", "")
    if python == sys.executable:
        # This package's own folder first, so that a child runs the code that started it.
        roots = filter(None, [str(PACKAGE.parent), before])
        environment["PYTHONPATH"] = os.pathsep.join(roots)
    return environment
