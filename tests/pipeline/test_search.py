"""The search: shapes are weighed and timed before they learn, and halved by what they learned."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize import settings
from optimize.cli import main
from optimize.pipeline import search as module
from optimize.pipeline.search import _Search, search
from optimize.pipeline.search_report import checks_of, content_of, plot, recipe_of, table_of
from optimize.pipeline.shapes import Outcome, Shape, halved, shapes_of
from optimize.settings import parse

pytestmark = pytest.mark.torch
SHAPES = st.builds(
    lambda name, size, speed, score: Shape(
        str(name), {}, {}, size, 1.0, (speed, speed, speed), {2: score}
    ),
    st.integers(), st.integers(1, 5), st.integers(1, 5).map(float),
    st.integers(0, 10).map(lambda tenth: tenth / 10),
)  # fmt: skip


@given(st.lists(SHAPES, unique_by=lambda shape: shape.name, min_size=1), st.floats(0.05, 1))
def test_what_is_left_out_is_beaten_and_the_front_goes_on(shapes, keep):
    found = {shape.name: shape for shape in halved(shapes, 2, keep)}
    assert found.keys() == {shape.name for shape in shapes}
    for shape in shapes:
        beaten = any(other.beats(shape) for other in shapes)
        if found[shape.name].reason:
            assert beaten
        if not beaten:
            assert not found[shape.name].reason
    stay = sum(not shape.reason for shape in found.values())
    assert stay >= math.ceil(keep * len(shapes))


@given(st.lists(SHAPES, unique_by=lambda shape: shape.name, min_size=1))
def test_the_front_is_what_no_other_beats(shapes):
    outcome = Outcome(tuple(shapes), None, "", Shape("teacher", {}, size_bytes=9, scores={0: 1.0}))
    assert outcome.front
    for shape in shapes:
        assert (shape in outcome.front) == (not any(other.beats(shape) for other in shapes))


def recipe(tiny_recipe, tmp_path, more=""):
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""extends = "{tiny_recipe}"
[distill]
epochs = 3
[search]
layers = [1]
vocabulary = ["all"]
static_widths = [16]
rungs = [0.34, 1.0]
[search.points]
elsewhere = [0.5, 90.0]
{more}""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def found(tiny_recipe, tiny_kit, tiny_cache, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("search")
    chosen, _ = settings.load(str(recipe(tiny_recipe, tmp_path)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "REPLICATES", (1,))
        patched.setattr(module, "TEACHER", "teacher-onnx")  # PyTorch takes seconds to start
        return search(chosen, None, lambda line: None, tiny_cache), chosen, tmp_path


@pytest.mark.whole
def test_shapes_are_weighed_timed_and_taught(found, tmp_path):
    outcome, chosen, folder = found
    assert [shape.name for shape in shapes_of(chosen)] == ["1 layers", "static, 16 wide"]
    by_name = {shape.name: shape for shape in outcome.shapes}
    assert by_name["static, 16 wide"].size_bytes < by_name["1 layers"].size_bytes
    for shape in outcome.shapes:
        low, ratio, high = shape.speedup[1], shape.speedup[0], shape.speedup[2]
        assert 0 < low <= ratio <= high
        assert 1 in shape.scores
    assert outcome.picked is not None
    assert outcome.picked.scores[3] == outcome.picked.score
    table = table_of(outcome)
    assert "**picked**" in table
    learned = {shape.name for shape in outcome.shapes if 3 in shape.scores}
    assert outcome.checks.keys() == learned
    checks = outcome.checks[outcome.picked.name]
    assert checks.integer > 0
    assert 0 <= checks.stays_in_batches <= 1
    assert checks.onnxruntime == "1.18"
    assert all(name in checks_of(outcome) for name in learned)
    assert all(shape.name in table for shape in outcome.shapes)
    picked = tmp_path / "picked.toml"
    picked.write_text(recipe_of(outcome, str(folder / "recipe.toml")), encoding="utf-8")
    again, _ = settings.load(str(picked))
    assert again.student.model_dump().items() >= outcome.picked.student.items()
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    plot(outcome, chosen, tmp_path / "s.svg")
    assert "<!-- elsewhere -->" in (tmp_path / "s.svg").read_text(encoding="utf-8")
    json.dumps(content_of(outcome))


GATES = """
[gates.size]
kind = "size"
candidate = "student-int8"
reference = "teacher-torch"
min_reduction_pct = 99.0
"""


def test_what_misses_a_gate_is_not_taught_and_told_why(
    tiny_recipe, tiny_kit, tiny_cache, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(module, "measure", None)  # none is left to be timed
    monkeypatch.setattr("optimize.pipeline.runner.default_root", lambda: tiny_cache)
    path = recipe(tiny_recipe, tmp_path, GATES)
    assert main(["search", "--recipe", str(path), "--out", str(tmp_path / "out"), "-q"]) == 1
    told = capsys.readouterr().out
    assert "smaller than the teacher, 99 asked for" in told
    assert "no shape has learned yet" in told
    assert not (tmp_path / "out" / "recipe.toml").exists()


def test_when_the_time_is_up_the_best_so_far_is_told(found, tiny_cache, monkeypatch):
    """What is in the cache costs no time: a search goes on from where it was."""
    outcome, chosen, _ = found
    series = {shape.name: shape for shape in outcome.shapes}
    monkeypatch.setattr(
        module._Search,
        "_beside_the_teacher",
        lambda self, group, replicates: [
            replace(shape, speedup=series[shape.name].speedup) for shape in group
        ],
    )
    again = search(chosen, 0.0, lambda line: None, tiny_cache)
    assert again.picked is not None
    assert again.picked.name == outcome.picked.name
    other = chosen.distill.model_copy(update={"seed": 9})
    stopped = search(
        chosen.model_copy(update={"distill": other}), 0.0, lambda line: None, tiny_cache
    )
    assert stopped.picked is None
    assert {shape.reason for shape in stopped.shapes} == {"the time was up before its 1 epochs"}


def test_a_shape_that_cannot_be_made_is_told_and_ends_nothing(
    tiny_recipe, tiny_kit, tiny_cache, tmp_path, monkeypatch
):
    path = recipe(tiny_recipe, tmp_path)
    text = path.read_text(encoding="utf-8").replace("layers = [1]", "layers = [7, 1]")
    path.write_text(text.replace("static_widths = [16]", ""), encoding="utf-8")
    chosen, _ = settings.load(str(path))
    monkeypatch.setattr(
        module._Search,
        "_beside_the_teacher",
        lambda self, group, replicates: [
            replace(shape, speedup=(9.0, 9.0, 9.0)) for shape in group
        ],
    )
    outcome = search(chosen, None, lambda line: None, tiny_cache)
    reasons = {shape.name: shape.reason for shape in outcome.shapes}
    assert "it cannot be made: " in reasons["7 layers"]
    assert outcome.picked.name == "1 layers"
    rows = table_of(outcome).splitlines()
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    assert len(rows) == 2 + len(outcome.shapes) + 1 + (outcome.linear is not None)


@pytest.mark.parametrize("representation", [0, 1])
def test_a_rung_never_learns_inner_states_alone(tiny_recipe, tmp_path, representation):
    assign = ["distill.pooled=1.0", f"distill.representation_epochs={representation}"]
    chosen, _ = settings.load(str(recipe(tiny_recipe, tmp_path)), None, assign)
    searching = module._Search(chosen, None, lambda line: None, tmp_path)
    assert searching._epochs() == ([1, 3] if representation == 0 else [2, 3])


def test_what_the_search_does_not_name_is_as_the_recipe_has_it(tiny_recipe):
    table = {"student": {"vocabulary": 90, "layers": 2}, "search": {"layers": []}}
    (shape,) = shapes_of(settings.parse(table, "test"))
    assert shape.student == {
        "shape": "encoder", "layers": 2, "vocabulary": 90, "feed_forward": None,
        "width": None, "heads": None,
    }  # fmt: skip


def test_every_width_is_a_shape_and_a_static_one_has_its_own(tiny_recipe):
    search = {"layers": [1], "width": ["all", 16], "static_widths": [8]}
    table = {"student": {"vocabulary": 90}, "search": search}
    shapes = shapes_of(settings.parse(table, "test"))
    assert [shape.name for shape in shapes] == [
        "1 layers, 90 tokens", "1 layers, 90 tokens, 16 wide", "static, 8 wide",
    ]  # fmt: skip
    assert [shape.student["width"] for shape in shapes] == [None, 16, 8]


def test_every_number_of_heads_is_a_shape():
    student = {"student": {"heads": 2}}
    search = {"layers": [1], "heads": ["all", 1, 6], "static_widths": [8]}
    shapes = shapes_of(settings.parse(student | {"search": search}, "test"))
    assert [shape.name for shape in shapes] == [
        "1 layers", "1 layers, 1 head", "1 layers, 6 heads", "static, 8 wide",
    ]  # fmt: skip
    assert [shape.student["heads"] for shape in shapes] == [None, 1, 6, None]
    (own,) = shapes_of(settings.parse(student | {"search": {"layers": [1]}}, "test"))
    assert own.student["heads"] == 2


@pytest.mark.parametrize("rungs", [[], [0.5], [1.0, 0.5], [0.5, 0.5, 1.0], [0.0, 1.0]])
def test_rungs_rise_to_the_whole(rungs):
    with pytest.raises(ValueError, match="rungs"):
        settings.parse({"search": {"rungs": rungs}}, "test")


def test_two_layers_are_not_the_second():
    """A list says which, a number how many; none of the four is lost."""
    chosen = parse({"search": {"layers": [2, [2], [6], 6, [2, 4]]}}, "test")
    names = ["2 layers", "layer 2", "layer 6", "6 layers", "layers 2+4"]
    assert [shape.name for shape in shapes_of(chosen)] == names


def test_a_static_shape_can_be_had_where_inner_states_come_first():
    distill = {"hidden": 1.0, "representation_epochs": 1, "pooled": 0.0}
    table = {"distill": distill, "search": {"static_widths": [8]}}
    shape = shapes_of(parse(table, "test"))[-1]
    merged = table | {"student": shape.student, "distill": distill | shape.distill}
    assert parse(merged, "test").student.shape == "static"


def test_gates_on_workloads_that_no_shape_was_timed_on_are_told(tmp_path):
    gate = {"kind": "speedup", "candidate": "student-int8", "reference": "teacher-torch"}
    gates = {
        "long": gate | {"min_ratio": 2.0, "workloads": ["long"]},
        "all": gate | {"min_ratio": 2.0},
    }
    chosen = parse({"gates": gates}, "test")
    found = _Search(chosen, None, lambda line: None, tmp_path)._unchecked()
    assert set(found) == {"long[long]", "all[short]", "all[long]", "all[batch32]"}


def test_a_text_that_is_there_twice_says_nothing_new(tiny_recipe, tiny_data, tmp_path, monkeypatch):
    """The picked shape is held to its margin by the texts that a gate would count."""
    rows = [json.loads(line) for line in tiny_data.read_text().splitlines()]
    doubled = [*rows, *(row | {"text": row["text"].upper()} for row in rows
                        if row["split"] == "validation")]  # fmt: skip
    data = tmp_path / "doubled.jsonl"
    data.write_text("\n".join(map(json.dumps, doubled)))
    chosen, _ = settings.load(str(tiny_recipe), None, [f"data.source={data}"])
    tried = _Search(chosen, None, lambda line: None, tmp_path)
    texts = tried.splits.validation.texts
    answers = np.tile([1.0, 0.0, 0.0], (len(texts), 1))
    monkeypatch.setattr(module, "rows_of", lambda classifier, split: answers)
    monkeypatch.setattr(module, "_score", lambda *_: 0.5)
    tried._asked("shape", 1, SimpleNamespace(manifest=None))
    assert len(tried.right["shape", 1]) == len({text.casefold() for text in texts})
