"""Stages survive interruption, and what is damaged is told and built again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock
from harm import flipped

from optimize.pipeline.cache import StageCache

KEY = "k" * 64


def write(content):
    def fill(result, work):
        (result / "model").write_text(content)
        (result / "part").mkdir()
        (result / "part" / "weights").write_bytes(content.encode() * 100)

    return fill


def found_or_built(cache, fill, name="stage"):
    return cache.find(name, KEY) or cache.build(name, KEY, fill, {"values": {"a": 1}})


def test_interrupted_stage_leaves_nothing_that_looks_done(tmp_path):
    cache = StageCache(tmp_path)

    def interrupted(result, work):
        (result / "model").write_text("half")
        work.mkdir()
        (work / "checkpoint").write_text("1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found_or_built(cache, interrupted)
    assert cache.find("stage", KEY) is None
    assert list(cache.entries()) == []

    def resumed(result, work):
        assert not list(result.iterdir())  # the half-written file is gone,
        assert (work / "checkpoint").read_text() == "1"  # the checkpoint is not
        (result / "model").write_text("whole")

    done = found_or_built(cache, resumed)
    assert (done / "model").read_text() == "whole"
    assert [path.name for path in done.iterdir()] == ["model"]
    assert sorted(path.name for path in done.parent.iterdir()) == ["result", "stage.json"]


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

StageCache(Path(sys.argv[1])).build("stage", "k" * 64, build)
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
    built = found_or_built(StageCache(tmp_path), write("whole"))
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
    found_or_built(StageCache(tmp_path), write("1"))
    found_or_built(StageCache(tmp_path), lambda result, work: pytest.fail("built twice"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path):
    path.write_bytes(b"")


DAMAGES = {
    "flipped": (flipped, "has SHA-256"),
    "cut": (cut, "bytes where"),
    "emptied": (emptied, "bytes where"),
    "deleted": (lambda path: path.unlink(), "is missing"),
}


@pytest.mark.parametrize("file", ["model", "part/weights"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_stage_is_told_by_name_and_built_again(tmp_path, file, kind):
    damage, words = DAMAGES[kind]
    first = found_or_built(StageCache(tmp_path), write("whole"))
    damage(first / file)
    told = []
    again = found_or_built(StageCache(tmp_path, told.append), write("whole"))
    assert (again / "model").read_text() == "whole"
    assert len(told) == 1
    assert told[0].startswith("stage: ")
    assert file in told[0]
    assert words in told[0]
    assert StageCache(tmp_path, pytest.fail).find("stage", KEY) == again


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 99}', None])
def test_stage_without_a_record_that_can_be_read_is_built_again(tmp_path, content):
    record = found_or_built(StageCache(tmp_path), write("whole")).parent / "stage.json"
    if content is None:
        record.unlink()
    else:
        record.write_text(content)
    told = []
    cache = StageCache(tmp_path, told.append)
    assert cache.find("stage", KEY) is None
    assert "cannot be read" in told[0]
    found_or_built(cache, write("whole"))


def test_file_that_nobody_wrote_is_noticed(tmp_path):
    folder = found_or_built(StageCache(tmp_path), write("whole"))
    (folder / "part" / "more").write_text("x")
    told = []
    assert StageCache(tmp_path, told.append).find("stage", KEY) is None
    assert "part/more does not belong there" in told[0]


def test_entries_tell_stage_size_and_age(tmp_path):
    cache = StageCache(tmp_path)
    found_or_built(cache, write("whole"))
    found_or_built(cache, write("other"), name="a-longer-name")
    longer, short = cache.entries()
    assert (longer.name, short.name) == ("a-longer-name", "stage")
    assert short.key == KEY[:20]
    assert short.size_bytes == 505
    assert short.parts == {"values": {"a": 1}}
    os.utime(short.folder / "stage.json", (time.time() - 86400 * 3,) * 2)
    assert [round(entry.age_days) for entry in cache.entries()] == [0, 3]
    cache.find("stage", KEY)  # use makes it young again
    assert [round(entry.age_days) for entry in cache.entries()] == [0, 0]


def test_stage_that_a_run_works_on_is_not_removed(tmp_path):
    cache = StageCache(tmp_path)
    found_or_built(cache, write("whole"))
    (entry,) = cache.entries()
    with FileLock(f"{entry.folder}.lock"):
        assert not cache.remove(entry)
    assert cache.remove(entry)
    assert list(cache.entries()) == []


def test_what_a_stopped_run_left_is_shown_and_removed(tmp_path):
    """Each trial that was cut short leaves some, and a full disk is full of it."""
    cache = StageCache(tmp_path)

    def stopped(result, work):
        work.mkdir(exist_ok=True)
        (work / "checkpoint").write_bytes(b"x" * 1000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found_or_built(cache, stopped)
    assert list(cache.entries()) == []
    (left,) = cache.unfinished()
    assert (left.name, left.size_bytes) == ("stage", 1000)
    assert left.key == f"{KEY[:20]}.unfinished"
    with FileLock(tmp_path / f"stage-{KEY[:20]}.lock"):
        assert not cache.remove(left)
    assert cache.remove(left)
    assert cache.disk_bytes() == 0


def test_record_is_json_that_people_can_read(tmp_path):
    folder = found_or_built(StageCache(tmp_path), write("whole"))
    record = json.loads((folder.parent / "stage.json").read_text())
    assert record["name"] == "stage"
    assert record["files"]["model"]["size_bytes"] == 5
