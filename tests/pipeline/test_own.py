"""``[variants.NAME]``: one table for what is built here and what is there already."""

import json
import sys

import pytest

from optimize import settings
from optimize.judge.duet import duet
from optimize.judge.kit import KitError, read_kit
from optimize.judge.request import JudgedRun, Request
from optimize.pipeline.runner import build
from optimize.quantize.adopted_answers import AdoptError
from optimize.settings.load import SettingsError

pytestmark = pytest.mark.torch
RULES = """
def load(folder):
    words = (folder / "words.txt").read_text().split()

    def answer(texts):
        return [next((word for word in words if word in text), "track") for text in texts]

    return answer
"""


@pytest.fixture
def project(tiny_data, tiny_kit, tmp_path, monkeypatch):
    """A folder with a recipe that judges rules beside a bundle, and builds neither."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.py").write_text(RULES)
    (tmp_path / "words.txt").write_text("cancel refund track")
    (tmp_path / "recipe.toml").write_text(
        f"""
[data]
source = {json.dumps(str(tiny_data))}
[variants.rules]
python = "rules:load"
files = ["words.txt"]
[variants.shipped]
model = {json.dumps(str(tiny_kit / "student-int8"))}
[judge]
variants = ["rules", "shipped"]
quick_blocks = 4
block_ms = 1.0
threads = 1
workloads = {{typical = {{texts = 4}}}}
[gates.size]
kind = "size"
candidate = "rules"
reference = "shipped"
min_reduction_pct = 50.0
"""
    )
    return tmp_path


def judged(project, tmp_path, **more):
    request = Request(project=project, recipe="recipe.toml", quick=True, **more)
    return JudgedRun(request, lambda s, tell: build(s, tell, tmp_path / "cache")).judge(print)


def test_nothing_is_built_and_all_are_judged(project, tmp_path):
    kit, report = judged(project, tmp_path)
    assert list(report.variants) == ["rules", "shipped"]
    assert report.verdict == "pass"
    assert {path.name.partition("-")[0] for path in (tmp_path / "cache").glob("*/")} == {
        "kit", "variant",
    }  # fmt: skip
    # The shipped model's ids are in its own order, the report's in the kit's.
    names = [report.label_names[label] for label in report.predictions["test"]["shipped"].labels]
    from optimize import Classifier

    texts = kit.examples("test").texts
    shipped = Classifier(kit.variants["shipped"].folder, threads=1)
    assert names == [answer.label for answer in shipped.predict(texts, batch_size=1)]


def test_the_last_variant_is_what_ships(project):
    chosen, _ = settings.load("recipe.toml", project)
    assert (chosen.judge.control, chosen.regression.candidate) == ("shipped", "shipped")
    assert not chosen.builds_chain


def test_code_of_a_kit_runs_only_where_ones_own_recipe_names_it(project, tmp_path):
    chosen, _ = settings.load("recipe.toml", project)
    kit = read_kit(build(chosen, print, tmp_path / "cache"))
    assert kit.trusting(chosen.variants).variants["rules"].missing is None
    assert "only the kit names it" in kit.trusting({}).variants["rules"].missing
    (project / "rules.py").write_text(RULES + "# changed\n")
    assert "is not your rules.py" in kit.trusting(chosen.variants).variants["rules"].missing


def test_a_strangers_kit_is_judged_without_running_its_code(project, tmp_path, monkeypatch):
    chosen, _ = settings.load("recipe.toml", project)
    kit = build(chosen, print, tmp_path / "cache")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    request = Request(project=elsewhere, kit=kit, quick=True)
    _, report = JudgedRun(request, build).judge(print)
    assert "is not run" in report.variants["rules"].missing
    assert "rules" not in report.predictions["test"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[variants.x]\n", "give one of model, python, trained, not none of them"),
        ('[variants.x]\nmodel = "a"\npython = "b:c"\n', "not model and python"),
        ('[variants.x]\npython = "b"\n', "is not MODULE:FACTORY"),
        ('[variants.x]\npython = "b:c"\nfiles = ["../x"]\n', "must lie in path itself"),
        ('[variants.x]\npython = "b:c"\nfiles = ["a/x"]\n', "must lie in path itself"),
        ('[variants.run]\nmodel = "a"\n', "has a name that is taken"),
        ('[variants.student-int8]\nmodel = "a"\n', "has a name that is taken"),
        ('[variants."a b"]\nmodel = "a"\n', "variants"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path, table, words):
    path = tmp_path / "recipe.toml"
    path.write_text(table)
    with pytest.raises(SettingsError, match=words):
        settings.load(str(path), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('variants.shipped.model="nowhere"', "there is no folder 'nowhere'"),
        ('variants.rules.files=["absent.txt"]', r"absent\.txt is not there"),
    ],
)
def test_files_that_are_not_there(project, tmp_path, change, words):
    chosen, _ = settings.load("recipe.toml", project, (change,))
    with pytest.raises(AdoptError, match=words):
        build(chosen, print, tmp_path / "cache")


@pytest.mark.whole
def test_word_counts_stand_beside(project, tmp_path):
    pytest.importorskip("sklearn", reason="the extra `linear` is not installed")
    changes = ('variants.tf-idf.trained="tf-idf"',)
    kit, report = judged(project, tmp_path, overrides=changes)
    assert kit.variants["tf-idf"].manifest.format == "linear"
    assert report.scores["test"]["tf-idf"].accuracy > 0.8


def test_a_control_whose_code_is_not_trusted_does_not_run_either(project, tmp_path):
    """The control is a second worker of a variant: what must not run, must not run there."""
    chosen, _ = settings.load("recipe.toml", project, ('judge.control="rules"',))
    kit = build(chosen, print, tmp_path / "cache")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(KitError, match=r"judge\.control 'rules' is not measurable: its code"):
        JudgedRun(Request(project=elsewhere, kit=kit, quick=True), build).judge(print)


def test_a_bundle_that_is_code_is_refused_by_every_door(project, tmp_path):
    chosen, _ = settings.load("recipe.toml", project)
    kit = read_kit(build(chosen, print, tmp_path / "cache"))
    code = kit.variants["rules"].folder
    with pytest.raises(KitError, match="is Python code"):
        kit.with_bundle(code, "shipped")
    assert kit.with_bundle(code, "baseline", own=True).variants["baseline"].missing is None
    with pytest.raises(KitError, match="is Python code"):
        duet(code, [sys.executable, sys.executable], kit=kit.folder, tell=print)


def test_code_leaves_nothing_in_its_folder(project, tmp_path, monkeypatch):
    """Where Python writes compiled modules, as it does unless it is told not to."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    kit, report = judged(project, tmp_path)
    assert report.variants["rules"].missing is None
    assert not list(kit.folder.rglob("__pycache__"))
