"""What cannot be cut out of a checkpoint is refused before anything trains."""

import json
import shutil

import numpy as np
import pytest

from optimize.data.splits import DataError
from optimize.distill.projections import DistillError
from optimize.models.checkpoint import CheckpointError, load_backbone
from optimize.models.encoder import StudentError
from optimize.pipeline.cost import Pace, cost_of, measured_pace
from optimize.pipeline.graph import graph
from optimize.pipeline.preflight import preflight
from optimize.pipeline.runner import load_splits
from optimize.quantize.calibrate import LOGITS_NAME, build_validation_logits
from optimize.settings import SettingsError, load

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("student.width=17", "ask for a multiple of 16 below 32"),
        ("student.width=64", "ask for a multiple of 16 below 32"),
        ("student.feed_forward=9999", "the model's layers have 64"),
        ("student.heads=1", 'student.pooling = "mean" too'),
        ("student.layers=7", "layers"),
        ("distill.relation_heads=5", "relation_heads = 5 does not divide a width of 32"),
        ("distill.relation_layer=21", "relation_layer = 21, and the teacher has 2 layers"),
    ],
)
def test_a_shape_that_is_not_there(tiny_recipe, change, told):
    more = ["distill.relations=1", "distill.relation_heads=4"] if "relation" in change else []
    settings, _ = load(str(tiny_recipe), None, [*more, change])
    with pytest.raises((StudentError, DistillError), match=told):
        preflight(settings)


def test_a_teacher_that_generates_is_refused_where_it_would_be_exported(
    tiny_recipe, tiny_backbone, tmp_path
):
    """In PyTorch it may teach an encoder; else an hour would be lost before it fails."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone)
    config = LlamaConfig(
        vocab_size=len(tokenizer), num_hidden_layers=2, max_position_embeddings=160,
        pad_token_id=None, **sizes,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    teacher = f"teacher.checkpoint={tmp_path / 'llama'}"
    with pytest.raises(CheckpointError, match="llama, which generates text"):
        preflight(load(str(tiny_recipe), None, [teacher])[0])
    own = [teacher, f"student.checkpoint={tiny_backbone}"]
    own.append('judge.variants=["teacher-torch", "student-onnx", "student-int8"]')
    chosen = load(str(tiny_recipe), None, own)[0]
    assert preflight(chosen) is not None
    stages = graph(chosen, load_splits(chosen))
    assert "teacher-onnx" not in stages
    assert stages["teacher-validation-logits"].inputs["model"] is stages["teacher"]
    # It answers from the last token that is no padding: its configuration did not name one.
    model = load_backbone(str(tmp_path / "llama"), ("a", "b"), None, "single_label_classification")
    rows = tokenizer(["refund", "where is my order now please"], padding=True, return_tensors="pt")
    rows.pop("token_type_ids")
    alone = tokenizer(["refund"], return_tensors="pt").input_ids
    model.eval()
    expected = model(input_ids=alone).logits[0].tolist()
    assert model(**rows).logits[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["student.vocabulary=64"], "student.vocabulary = 64, but the special tokens"),
        (['student.shape="static"', "student.width=64"], "states of 32 values; ask for at most 32"),
    ],
)
def test_what_no_texts_could_make_possible_is_refused_before_the_teacher(
    tiny_recipe, tmp_path, changes, told
):
    from transformers import AutoTokenizer, BertConfig, BertModel

    chosen, _ = load(str(tiny_recipe), None, [])
    tokenizer = AutoTokenizer.from_pretrained(chosen.teacher.checkpoint)
    letters = [chr(ord("a") + row) for row in range(26)] + [chr(0x430 + row) for row in range(64)]
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    words = content["model"]["vocab"]
    for letter in letters:
        words.setdefault(letter, len(words))
    tokenizer._tokenizer = type(tokenizer._tokenizer).from_str(json.dumps(content))
    tokenizer.save_pretrained(tmp_path)
    config = BertConfig.from_pretrained(chosen.teacher.checkpoint, vocab_size=len(words))
    BertModel(config).save_pretrained(tmp_path)
    plain = ["student.layers=all", f"teacher.checkpoint={tmp_path}"]
    with pytest.raises(StudentError, match=told):
        preflight(load(str(tiny_recipe), None, [*plain, *changes])[0])


@pytest.mark.parametrize("own", [False, True])
def test_a_student_that_no_onnx_file_holds_is_refused_before_the_teacher(
    tiny_recipe, tiny_backbone, monkeypatch, own
):
    """Also where it is all of a teacher that stays in PyTorch."""
    whole = ["student.layers=all"]
    whole += [f"student.checkpoint={tiny_backbone}"] if own else []
    whole.append('judge.variants=["teacher-torch", "student-onnx", "student-int8"]')
    monkeypatch.setattr("optimize.models.fit.LARGEST_ONNX", 1000)
    with pytest.raises(CheckpointError, match="an ONNX file holds 2 GiB at most"):
        preflight(load(str(tiny_recipe), None, whole)[0])


def test_a_teacher_in_pytorch_is_asked_as_the_exported_one_is(tiny_kit, tmp_path, tiny_recipe):
    data = load_splits(load(str(tiny_recipe), None, [])[0]).training
    found = {}
    for name in ("teacher-torch", "teacher-onnx"):
        (tmp_path / name).mkdir()
        build_validation_logits(tmp_path / name, None, data=data, isa="", model=tiny_kit / name)
        found[name] = np.load(tmp_path / name / LOGITS_NAME)
    np.testing.assert_allclose(*found.values(), atol=1e-4)


def test_what_one_onnx_file_does_not_hold_is_refused(tiny_recipe, monkeypatch):
    monkeypatch.setattr("optimize.models.fit.LARGEST_ONNX", 1000)
    with pytest.raises(CheckpointError, match="an ONNX file holds 2 GiB at most"):
        preflight(load(str(tiny_recipe), None, [])[0])
    without = ['judge.variants=["teacher-torch", "student-onnx", "student-int8"]']
    assert preflight(load(str(tiny_recipe), None, without)[0]) is not None


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("nothing.txt", None, "which does not exist"),
        ("t.csv", "utterance\nx\n", "no column 'text'"),
        ("t.jsonl", '{"text": "x"}\n{"text": 7}\n', "row 2"),
    ],
)
def test_texts_of_ones_own_are_read_before_a_teacher_trains(
    tiny_recipe, tmp_path, name, content, told
):
    if content is not None:
        (tmp_path / name).write_text(content)
    change = [f"distill.transfer={tmp_path / name}"]
    with pytest.raises(DataError, match=told):
        preflight(load(str(tiny_recipe), None, change)[0])


def test_the_cost_counts_texts_of_ones_own_and_the_control(tiny_recipe, tmp_path):
    (tmp_path / "more.txt").write_text("one\n\ntwo\n" * 500)
    plain, _ = load(str(tiny_recipe), None, ["distill.augment=0", "distill.misspelt=0"])
    splits, pace = load_splits(plain), Pace(0.01, 1000)
    less = cost_of(plain, splits, pace)
    changes = {
        "distill.transfer": f"{tmp_path / 'more.txt'}",
        "distill.control": "true",
    }
    more = {
        key: cost_of(
            load(str(tiny_recipe), None,
                 ["distill.augment=0", "distill.misspelt=0", f"{key}={value}"])[0],
            splits, pace,
        )
        for key, value in changes.items()
    }  # fmt: skip
    assert more["distill.transfer"].scored == less.scored + 1000
    assert more["distill.transfer"].distilled == less.distilled + 1000 * plain.distill.epochs
    assert more["distill.control"].minutes > less.minutes


def test_the_pace_is_of_texts_as_they_are_cut(tiny_recipe):
    """A text of more tokens than there are positions once ended `init` and `check`."""
    chosen, _ = load(str(tiny_recipe), None, [])
    assert measured_pace(chosen, [100_000, 3], 32).seconds > 0


@pytest.mark.parametrize(
    "change",
    ["teacher.learning_rate=inf", "distill.temperature=nan", "distill.epochs=true",
     "student.layers=true", "gates.size.min_reduction_pct=inf"],
)  # fmt: skip
def test_a_number_has_an_end_and_is_no_truth(tiny_recipe, change):
    with pytest.raises(SettingsError, match=change.partition("=")[0].rpartition(".")[2]):
        load(str(tiny_recipe), None, [change])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["student.heads=3"], "heads = 3, but the model's layers have 2"),
        (["student.heads=2", "student.width=16"], "heads = 2, but the model's layers have 1"),
        (
            ["student.heads=1", "distill.relations=1", "distill.relation_heads=32"],
            "relation_heads = 32 does not divide a width of 16",
        ),
    ],
)
def test_heads_that_are_not_there(tiny_recipe, changes, told):
    settings, _ = load(str(tiny_recipe), None, ['student.pooling="mean"', *changes])
    with pytest.raises((StudentError, DistillError), match=told):
        preflight(settings)


def test_a_shape_that_is_there(tiny_recipe):
    changes = ["student.width=16", "student.feed_forward=32", "student.layers=1"]
    assert preflight(load(str(tiny_recipe), None, changes)[0]) is not None
    heads = ['student.pooling="mean"', "student.heads=1", "distill.relations=1"]
    heads.append("distill.relation_heads=4")
    assert preflight(load(str(tiny_recipe), None, heads)[0]) is not None
    static = ["student.shape=static", "student.width=17", "student.layers=all"]
    assert preflight(load(str(tiny_recipe), None, static)[0]) is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (['student.pooling="mean"'], 'pooling = "mean" needs a BERT'),
        (["distill.layer_decay=0.9"], "no list of encoder layers"),
        (["distill.hidden=1"], "no list of encoder layers"),
        (["teacher.layer_decay=0.9"], "no list of encoder layers"),
        ([], None),
    ],
)
def test_what_another_family_cannot_learn(tiny_recipe, tiny_backbone, tmp_path, changes, told):
    """ALBERT has one layer, read many times: nothing to cut, and no list of layers."""
    import transformers

    shutil.copytree(tiny_backbone, tmp_path / "albert")
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    rows = len(transformers.AutoTokenizer.from_pretrained(tiny_backbone))
    config = transformers.AlbertConfig(vocab_size=rows, embedding_size=16, **sizes)
    transformers.AlbertModel(config).save_pretrained(tmp_path / "albert")
    checkpoint = f"teacher.checkpoint={tmp_path / 'albert'}"
    settings, _ = load(str(tiny_recipe), None, [checkpoint, "student.layers=all", *changes])
    if told is None:
        assert preflight(settings) is not None
        return
    with pytest.raises(StudentError, match=told):
        preflight(settings)


def test_a_teacher_of_logits_alone_has_no_states(tiny_recipe):
    with pytest.raises(SettingsError, match=r"distill\.pooled.*teacher\.logits holds logits alone"):
        load(str(tiny_recipe), None, ["teacher.logits=some.npz", "distill.pooled=1"])
