"""pytest in a process of its own, whose exit code counts, without importing everything anew."""

import importlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest

# What each run under the plugin imports anyway: most of its second.
PRELOADED = ["pytest", "pytest_benchmark.plugin", "xdist.plugin", "optimize.plugin.hooks"]
PRELOADED += ["optimize.judge.reports.tables", "optimize.judge.stored"]
PRELOADED += ["optimize.judge.request", "optimize.judge.run", "optimize.judge.reports.page"]
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT = multiprocessing.get_context("forkserver" if FORKS else "spawn")
if FORKS:
    CONTEXT.set_forkserver_preload(PRELOADED)
    # pytester forgets what a test imported; with this module it would forget the server.
    importlib.import_module("multiprocessing.forkserver")


def run_pytest(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """As ``pytester.runpytest_subprocess``, under the plugin.

    The process is forked off one that has the imports; where there is no fork (Windows) it is
    started as any other.
    """
    # The last two would take most of a second.
    plugins = ["-p", "optimize.plugin", "-p", "no:hypothesispytest", "-p", "no:anyio"]
    given = [*plugins, *arguments, f"--basetemp={pytester.path / 'basetemp'}"]
    process = CONTEXT.Process(target=_main, args=(pytester.path, given, dict(os.environ)))
    process.start()
    process.join()
    out, err = (
        (pytester.path / name).read_text(encoding="utf-8").splitlines() for name in ("out", "err")
    )
    sys.stdout.write("\n".join([*out, *err]))
    assert process.exitcode is not None
    return pytest.RunResult(process.exitcode, out, err, 0.0)


def _main(folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
        os.close(file)
    sys.argv = ["pytest", *arguments]
    sys.exit(int(pytest.main(arguments)))
