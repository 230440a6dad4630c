"""Stages survive interruption and do not depend on comments."""

import os
import signal
import subprocess
import sys

import pytest

from optimize.pipeline.cache import StageCache
from optimize.pipeline.key import code_digest, key_of


def test_interrupted_stage_leaves_nothing_that_looks_done(tmp_path):
    cache = StageCache(tmp_path)

    def interrupted(result, work):
        (result / "model").write_text("half")
        work.mkdir()
        (work / "checkpoint").write_text("1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.folder("stage", "k" * 40, interrupted)
    assert not [path for path in tmp_path.iterdir() if path.name == "stage-" + "k" * 20]

    def resumed(result, work):
        assert not list(result.iterdir())  # the half-written file is gone,
        assert (work / "checkpoint").read_text() == "1"  # the checkpoint is not
        (result / "model").write_text("whole")

    done = cache.folder("stage", "k" * 40, resumed)
    assert (done / "model").read_text() == "whole"
    assert [path.name for path in done.iterdir()] == ["model"]


SLOW_STAGE = """
import signal, sys, time
from pathlib import Path
from optimize.pipeline.cache import StageCache

# A shell that starts tests in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def build(result, work):
    (result / "model").write_text("half")
    print("writing", flush=True)
    time.sleep(60)

StageCache(Path(sys.argv[1])).folder("stage", "k" * 40, build)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_process_leaves_nothing_that_looks_done(tmp_path, number):
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_STAGE, str(tmp_path)], stdout=subprocess.PIPE, stderr=-3
    )
    assert child.stdout.readline() == b"writing\n"
    os.kill(child.pid, number)
    child.wait()
    child.stdout.close()
    built = StageCache(tmp_path).folder(
        "stage", "k" * 40, lambda result, work: (result / "model").write_text("whole")
    )
    assert (built / "model").read_text() == "whole"


TWO_AT_ONCE = SLOW_STAGE.replace("time.sleep(60)", "time.sleep(0.5)")


def test_two_processes_build_a_stage_once(tmp_path):
    children = [
        subprocess.Popen([sys.executable, "-c", TWO_AT_ONCE, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    told = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(told) == [b"", b"writing\n"]


def test_built_stage_is_not_built_again(tmp_path):
    cache = StageCache(tmp_path)
    cache.folder("s", "k" * 40, lambda result, work: (result / "a").write_text("1"))
    cache.folder("s", "k" * 40, lambda result, work: pytest.fail("built twice"))


def test_comments_and_docstrings_retrain_nothing(tmp_path):
    versions = {
        "plain": "def f():\n    return 1\n",
        "documented": '"""Doc."""\n\n# why\ndef f():\n    """Doc."""\n    return 1\n',
        "changed": "def f():\n    return 2\n",
    }
    digests = {}
    for name, code in versions.items():
        (tmp_path / f"{name}.py").write_text(code)
        digests[name] = code_digest(tmp_path / f"{name}.py")
    assert digests["plain"] == digests["documented"] != digests["changed"]


def test_key_follows_settings_code_and_libraries():
    base = key_of({"a": 1}, ("distill/losses.py",), ("numpy",))
    assert base == key_of({"a": 1}, ("distill/losses.py",), ("numpy",))
    others = [
        key_of({"a": 2}, ("distill/losses.py",), ("numpy",)),
        key_of({"a": 1}, ("data/load.py",), ("numpy",)),
        key_of({"a": 1}, ("distill/losses.py",), ("numpy", "torch")),
    ]
    assert len({base, *others}) == 4
