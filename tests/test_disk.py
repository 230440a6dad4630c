"""A disk that is full is told by its folder, whoever found it so."""

import errno
import os
from pathlib import Path

import pytest

from optimize.cli import main
from optimize.disk import DiskFullError, told_when_full
from optimize.pipeline.cache import StageCache


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("[enforce fail at inline_container.cc] . No space left on device"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_every_librarys_way_to_say_it(error, tmp_path):
    def fill(result, work):
        (result / "model").write_text("half")
        raise error

    cache = StageCache(tmp_path / "cache")
    with pytest.raises(DiskFullError, match=rf"no space is left where {tmp_path}.*--older-than"):
        cache.build("teacher", "0" * 64, fill)
    assert cache.find("teacher", "0" * 64) is None


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), told_when_full(tmp_path):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_real_one():
    full = Path("/dev/full")
    with (
        pytest.raises(DiskFullError),
        told_when_full(full.parent),
        full.open("wb", buffering=0) as stream,
    ):
        stream.write(b"x" * 10)


def test_what_nobody_foresaw_is_one_line_and_debug_shows_it_all(monkeypatch, capsys):
    from optimize.cli import commands

    def fail(arguments):
        raise KeyError("what")

    monkeypatch.setitem(commands.RUNNERS, "schema", fail)
    assert main(["schema", "recipe"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("optimize: unexpected KeyError: 'what' (at optimize/cli/commands.py:")
    with pytest.raises(KeyError):
        main(["--debug", "schema", "recipe"])
