"""What moves a key and what does not: mutations of every module and value."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from optimize import settings
from optimize.data.input_file import InputFile
from optimize.data.splits import Split, Splits, TrainingData
from optimize.data.unlabelled import OwnTexts
from optimize.models import checkpoint
from optimize.pipeline import key as module
from optimize.pipeline.graph import can_quantize, graph
from optimize.pipeline.key import CODE, LEFT_OUT_MODULES, PACKAGE, Code, encoded, is_left_out
from optimize.settings.training import DistillSettings, StudentSettings, TeacherSettings

# One recipe in which every stage there is has a part.
EVERY_STAGE = [
    "distill.augment=1",
    'distill.augment_kinds=["drop", "replace"]',
    "distill.folds=2",
    "distill.hidden=1.0",
    "distill.relations=1.0",
    "distill.control=true",
]


def two_texts(*texts):
    return Split(texts, np.arange(len(texts)) % 2)


@pytest.fixture(scope="module")
def splits():
    return Splits(("a", "b"), two_texts("x", "y"), two_texts("z", "w"), two_texts("v", "u"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints as far as a key reads them."""
    root = tmp_path_factory.mktemp("checkpoints")
    for name in ("teacher", "writer"):
        (root / name).mkdir()
        (root / name / "config.json").write_text(f'{{"name": "{name}"}}')
        (root / name / "model.safetensors").write_bytes(name.encode())
    return root


def stages_of(folders, splits, *changes):
    checkpoints = [
        f"teacher.checkpoint={folders / 'teacher'}",
        f"generate.checkpoint={folders / 'writer'}",
    ]
    chosen, _ = settings.load("sample", None, [*checkpoints, *EVERY_STAGE, *changes])
    return graph(chosen, splits)


@pytest.fixture(scope="module")
def stages(folders, splits):
    found = stages_of(folders, splits)
    without = 0 if can_quantize("optimum-dynamic") else 3
    without += "variant-tf-idf" not in found  # needs scikit-learn
    assert len(found) == 23 - without, (
        "a stage was added or removed: say here which recipe holds it"
    )
    return found


def keys_with(stages, code):
    known = {}
    return {name: stage.key_with(code, known) for name, stage in stages.items()}


def reached(stages, code):
    """Modules in a stage's own closure or that of what it is made of."""
    own = {name: code.closure(stage.make.partition(":")[0]) for name, stage in stages.items()}
    return {
        name: frozenset().union(*(own[each.name] for each in stage.walk()))
        for name, stage in stages.items()
    }


def mutated(root, name, text):
    """The package with some text at the end of one module."""
    place = root.joinpath(*name.split(".")[1:])
    path = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + text, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_changed_module_moves_the_keys_that_reach_it_and_no_other(stages, tmp_path):
    """For every stage and every module of the package, in both directions."""
    root = tmp_path / "optimize"
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__", "sample"))
    plain = keys_with(stages, Code(root))
    assert plain == {name: stage.key for name, stage in stages.items()}
    closures = reached(stages, Code(root))
    moved_pairs = kept_pairs = 0
    for name in Code(root).modules():
        for _ in mutated(root, name, "\n_MUTATION = 1\n"):
            changed = keys_with(stages, Code(root))
        moved = {stage for stage in stages if changed[stage] != plain[stage]}
        assert moved == {stage for stage in stages if name in closures[stage]}, name
        moved_pairs += len(moved)
        kept_pairs += len(stages) - len(moved)
        for _ in mutated(root, name, "\n# a comment\n"):
            assert Code(root).digest(name) == CODE.digest(name)
    assert moved_pairs > 300
    assert kept_pairs > 300


def test_closures_hold_what_makes_a_stage_and_leave_out_what_does_not(stages):
    own = {name: CODE.closure(stage.make.partition(":")[0]) for name, stage in stages.items()}
    assert "optimize.distill.losses" in own["student"]
    assert "optimize.data.misspell" in own["student"]
    assert "optimize.distill.losses" not in own["teacher"] | own["teacher-outputs"]
    assert "optimize.quantize.card" in own["calibrated-int8-ort-dynamic"]
    assert not any(".judge." in name for name in own["kit"] | own["student"])
    assert not any(name.startswith("optimize.settings") for name in own["student"])


def test_what_is_left_out_is_there_and_says_why():
    for pattern, why in LEFT_OUT_MODULES.items():
        assert why
        assert any(is_left_out(name) for name in CODE.modules()), pattern
    for section, fields in module.LEFT_OUT_FIELDS.items():
        assert set(fields) <= set(section.model_fields)
        assert all(fields.values())


def test_nothing_is_imported_by_a_name_that_the_trees_do_not_show():
    """A closure would miss it. The runner's own import of a stage's function is the key's start."""
    dynamic = re.compile(r"import_module\(|__import__\(|runpy|exec\(")
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if dynamic.search(path.read_text(encoding="utf-8"))
    ]
    # A worker runs one's own code by its name, and a child a module of ours; no stage reaches them.
    assert sorted(found) == [
        "bundle/guard.py",
        "judge/workers/others.py",
        "judge/workers/process.py",
        "pipeline/stage.py",
    ]


def test_packages_only_hand_on_names():
    """They run whenever a module of theirs is imported, and are in no closure by that."""
    import ast

    for path in PACKAGE.rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign):
                assert [each.id for each in node.targets] in (["__all__"], ["__version__"]), path
            else:
                assert isinstance(node, ast.ImportFrom | ast.Expr), path


def test_imports_of_type_checkers_do_not_count(tmp_path):
    root = tmp_path / "optimize"
    (root / "room").mkdir(parents=True)
    (root / "room" / "__init__.py").write_text("")
    (root / "room" / "a.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import optimize.room.b\n"
        "else:\n    import json\ndef f():\n    from optimize.room import c\n"
    )
    (root / "room" / "b.py").write_text("import torch\n")
    (root / "room" / "c.py").write_text("import numpy\n")
    code = Code(root)
    assert code.closure("optimize.room.a") == {"optimize.room.a", "optimize.room.c"}
    assert list(code.distributions("optimize.room.a")) == ["numpy"]


@pytest.mark.parametrize("name", ["torch", "transformers", "numpy", "tokenizers", "accelerate"])
def test_another_version_of_a_library_moves_the_key(stages, monkeypatch, name):
    real = module._version
    before = keys_with(stages, Code())
    monkeypatch.setattr(module, "_version", lambda each: "0" if each == name else real(each))
    assert keys_with(stages, Code())["student"] != before["student"]


def test_another_python_moves_every_key(stages, monkeypatch):
    before = keys_with(stages, Code())
    monkeypatch.setattr(module.platform, "python_version_tuple", lambda: ("3", "99", "0"))
    after = keys_with(stages, Code())
    assert not {name for name in before if before[name] == after[name]}


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ("teacher.epochs=7", "teacher"),
        ("teacher.precision=fp32", None),  # what it is here anyway, or moves as bf16 would
        ("generate.texts=7", "generated"),
        ("distill.seed=7", "transfer-set"),
        ("distill.augment=7", "transfer-set"),
        ("distill.alpha=0.3", "student"),
        ("student.dropout=0.3", "student"),
        ("export.opset=16", "teacher-onnx"),
        ("calibrate.temperature=false", "calibrated-student"),
        ("judge.blocks=9", "kit"),
    ],
)
def test_a_setting_moves_the_first_stage_that_reads_it(stages, folders, splits, change, moved):
    after = stages_of(folders, splits, change)
    shared = [name for name in stages if name in after]
    differing = [name for name in shared if stages[name].key != after[name].key]
    if moved is not None:
        assert differing[0] == moved
    assert "kit" in differing or moved is None


def test_precision_is_keyed_as_it_is_on_this_cpu(folders, splits, monkeypatch):
    import optimize.machine

    found = {}
    for fast in (True, False):
        monkeypatch.setattr(optimize.machine, "has_fast_bf16", lambda fast=fast: fast)
        found[fast] = stages_of(folders, splits)
    for name in ("teacher", "teacher-outputs", "student", "generated"):
        assert found[True][name].key != found[False][name].key
    assert encoded(found[True]["teacher"].values["settings"])["precision"] == "bf16"


def test_instruction_set_is_in_the_keys_of_what_is_fitted_to_int8(folders, splits, monkeypatch):
    from optimize.pipeline import graph as graph_module

    found = []
    for isa in ("avx2", "amx_int8"):
        monkeypatch.setattr(graph_module, "isa_class", lambda isa=isa: isa)
        found.append(stages_of(folders, splits))
    before, after = found
    name = "calibrated-int8-ort-dynamic"
    assert before[name].key != after[name].key
    assert before["student"].key == after["student"].key


def test_where_a_checkpoint_lies_does_not_matter_but_what_it_holds(folders, tmp_path):
    moved = shutil.copytree(folders / "teacher", tmp_path / "elsewhere")
    first, second = (
        encoded(TeacherSettings(checkpoint=str(place))) for place in (folders / "teacher", moved)
    )
    assert first == second
    (moved / "model.safetensors").write_bytes(b"other")
    assert encoded(TeacherSettings(checkpoint=str(moved))) != first
    assert encoded(StudentSettings())["weights"] == "teacher"


def test_where_the_users_texts_lie_does_not_matter_but_what_they_say(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    for path in (first, second):
        path.write_text("one\n")
    of = lambda path, column="text": encoded(OwnTexts(str(path), column))  # noqa: E731
    assert of(first) == of(second) != of(first, "body")
    first.write_text("two\n")
    assert of(first) != of(second)
    assert encoded(InputFile(first)) != encoded(InputFile(second))
    paths = (encoded(DistillSettings(transfer=str(path))) for path in (first, second))
    assert next(paths) == next(paths)


def test_a_hub_revision_is_keyed_by_its_commit(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    text = OwnTexts("owner/texts", "text", "main")
    assert text.key_part == "hub:owner/texts@main text"  # nobody here knows the commit
    refs = tmp_path / "datasets--owner--texts" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("1" * 40)
    assert OwnTexts("owner/texts", "text", "main").key_part == f"hub:owner/texts@{'1' * 40} text"
    asked = []

    class Api:
        def repo_info(self, repository, **asked_for):
            asked.append((repository, asked_for["revision"], asked_for["repo_type"]))
            return huggingface_hub.hf_api.ModelInfo(id=repository, sha="2" * 40, siblings=[])

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert checkpoint.digest("owner/bert", None) == f"hub:owner/bert@{'2' * 40}"
    assert asked == [("owner/bert", "main", "model")]
    assert checkpoint.digest("owner/bert", "3" * 40) == f"hub:owner/bert@{'3' * 40}"


def test_data_is_keyed_by_its_content_and_tests_only_where_they_are_read(splits):
    assert encoded(splits.training) == encoded(
        TrainingData(splits.label_names, splits.train, splits.validation)
    )
    other = Splits(splits.label_names, splits.train, splits.validation, two_texts("q", "r"))
    assert encoded(other.training) == encoded(splits.training)
    assert encoded(other) != encoded(splits)
    relabelled = Split(splits.train.texts, 1 - splits.train.labels)
    changed = Splits(splits.label_names, relabelled, splits.validation, splits.test)
    assert encoded(changed.training) != encoded(splits.training)


def test_a_value_that_no_key_can_be_made_of_is_refused():
    with pytest.raises(TypeError, match="Path cannot be part of a key"):
        encoded({"folder": [Path("x")]})
