"""Why a stage is built has an answer."""

import json

import numpy as np
import pytest

from optimize import settings
from optimize.cli import main
from optimize.data.splits import Split, Splits
from optimize.pipeline.cache import StageCache
from optimize.pipeline.explain import diagram, difference, explanation
from optimize.pipeline.graph import graph


@pytest.fixture(scope="module")
def splits():
    split = Split(("a", "b"), np.arange(2))
    return Splits(("a", "b"), split, split, split)


def stages_of(splits, *changes):
    return graph(settings.load("sample", None, changes)[0], splits)


def test_explanation_names_every_part(splits):
    stage = stages_of(splits)["student"]
    text = "\n".join(explanation(stage))
    assert text.startswith(f"student-{stage.key[:20]}\n  made by optimize.distill.student:build")
    for words in ("distill.alpha = ", "inputs\n    outputs = ", "torch = ", "python = 3."):
        assert words in text
    assert "optimize.distill.losses = " in text


def test_difference_names_what_moved(splits, tmp_path):
    cache = StageCache(tmp_path)
    before = stages_of(splits)["student"]
    assert difference(before, []) == ["student: the cache holds none, so it is built"]
    cache.build("student", before.key, lambda result, work: None, before.parts)
    entries = list(cache.entries())
    (line,) = difference(before, entries)
    assert line == "student: in the cache under this very key, nothing to build"
    after = stages_of(splits, "distill.alpha=0.25")["student"]
    lines = difference(after, entries)
    assert lines[0] == f"student: built, since student-{before.key[:20]} differs in"
    was = before.values["distill"].alpha
    assert lines[1:] == [f"    values.distill.alpha: {was} → 0.25"]


def test_difference_is_told_from_the_newest(splits, tmp_path):
    cache = StageCache(tmp_path)
    for alpha in (0.1, 0.2):
        stage = stages_of(splits, f"distill.alpha={alpha}")["student"]
        cache.build("student", stage.key, lambda result, work: None, stage.parts)
    lines = difference(stages_of(splits, "distill.alpha=0.25")["student"], list(cache.entries()))
    assert lines[1:] == ["    values.distill.alpha: 0.2 → 0.25"]


def test_diagram_has_every_stage_and_every_input(splits):
    stages = stages_of(splits)
    text = diagram(stages)
    assert text.startswith("flowchart TD\n")
    for name, stage in stages.items():
        assert f'{name.replace("-", "_")}["{name}<br/>' in text
        for each in stage.inputs.values():
            assert f"    {each.name.replace('-', '_')} -->" in text


def test_command_explains_without_building(tiny_recipe, tiny_cache, tiny_kit, capsys, monkeypatch):
    monkeypatch.setattr("optimize.pipeline.cache.default_root", lambda: tiny_cache)
    recipe = ["build", "--recipe", str(tiny_recipe)]
    assert main([*recipe, "--explain", "student"]) == 0
    assert "made by optimize.distill.student:build_student" in capsys.readouterr().out
    assert main([*recipe, "--why"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "teacher: in the cache under this very key, nothing to build" in told
    assert main([*recipe, "--set", "distill.alpha=0.77", "--why", "student"]) == 0
    assert "values.distill.alpha: " in capsys.readouterr().out
    assert main([*recipe, "--explain", "student", "--why", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "made by optimize.distill" in "\n".join(found["explain"]["student"])
    assert found["why"]["student"] == [
        "student: in the cache under this very key, nothing to build"
    ]
    assert main([*recipe, "--explain", "studnet"]) == 1
    assert "no stage 'studnet'; this recipe has teacher, " in capsys.readouterr().err


def test_command_shows_and_prunes_the_cache(tmp_path, capsys, monkeypatch):
    import os
    import time

    monkeypatch.setattr("optimize.pipeline.cache.default_root", lambda: tmp_path)
    cache = StageCache(tmp_path)
    for name in ("kit", "student", "teacher"):
        cache.build(name, "k" * 64, lambda result, work: (result / "a").write_bytes(b"x" * 10**6))
    assert main(["cache"]) == 0
    told = capsys.readouterr().out
    assert f"1.0 MB    0.0 days  student-{'k' * 20}" in told
    assert "3 stages in" in told
    for name in ("kit", "student"):
        path = tmp_path / f"{name}-{'k' * 20}" / "stage.json"
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    assert main(["cache", "--older-than", "30", "--keep-kits"]) == 0
    assert "1 of 3 stages removed, 1.0 MB freed" in capsys.readouterr().out
    assert sorted(entry.name for entry in cache.entries()) == ["kit", "teacher"]
