"""Seconds by section: each its own, none counted twice."""

import pytest

from optimize.cli import main
from optimize.training import profile as module
from optimize.training.profile import Profile


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_a_section_does_not_count_what_it_calls(clock):
    profile = Profile()
    with profile.section("outer"):
        clock[0] += 1
        for _ in range(2):
            with profile.section("inner"):
                clock[0] += 3
        clock[0] += 2
    assert profile.seconds == {"outer": 3, "inner": 6}
    assert profile.calls == {"outer": 1, "inner": 2}
    assert profile.lines()[0].split() == ["6.0", "s", "66.7", "%", "2", "×", "inner"]


def test_a_section_ends_with_an_error(clock):
    profile = Profile()

    def fails():
        with profile.section("outer"), profile.section("inner"):
            clock[0] += 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert profile.seconds == {"outer": 0, "inner": 1}


@pytest.mark.whole
def test_build_prints_where_the_time_went(tiny_recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("optimize.pipeline.runner.default_root", lambda: tmp_path / "cache")
    out = ["--out", str(tmp_path / "kit"), "--profile"]
    assert main(["build", "--recipe", str(tiny_recipe), *out]) == 0
    told = capsys.readouterr().out
    for name in ("forward", "backward", "optimizer", "data", "evaluation", "stage teacher-onnx"):
        assert f"×  {name}\n" in told
