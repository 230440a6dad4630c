"""Models built elsewhere become bundles, or are refused in words."""

import json
import shutil

import onnx
import pytest

from optimize import Classifier
from optimize.bundle.folder import BundleError
from optimize.bundle.manifest import Manifest
from optimize.cli import main
from optimize.quantize.adopt import adopt, check_labels, kind_of
from optimize.quantize.adopted_answers import AdoptError

pytestmark = pytest.mark.torch
TEXTS = ["please track my order", "refund", "cancel the thing now"]


@pytest.fixture
def exported(tiny_kit, tmp_path):
    """A folder as optimum's command line writes it."""

    def made(variant="student-onnx", name="model.onnx"):
        folder = tmp_path / "exported"
        folder.mkdir()
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_kit / "student-torch" / file, folder)
        shutil.copy(tiny_kit / variant / "model.onnx", folder / name)
        return folder

    return made


@pytest.mark.parametrize(
    ("variant", "name", "quantized"),
    [("student-onnx", "model.onnx", False), ("student-int8", "model_quantized.onnx", True)],
)
def test_an_onnx_folder_answers_as_it_did(tiny_kit, exported, tmp_path, variant, name, quantized):
    target = tmp_path / "bundle"
    command = ["adopt", str(exported(variant, name)), "--out", str(target), "--max-length", "32"]
    assert main(command) == 0
    adopted, built = Classifier(target), Classifier(tiny_kit / variant)
    assert (adopted.manifest.quantization is not None) is quantized
    assert adopted.labels == built.labels
    assert (adopted.logits(TEXTS, batch_size=1) == built.logits(TEXTS, batch_size=1)).all()


def test_of_two_models_the_quantized_one_is_meant(exported, tiny_kit, tmp_path):
    folder = exported("student-int8", "model_quantized.onnx")
    shutil.copy(tiny_kit / "student-onnx" / "model.onnx", folder)
    (tmp_path / "result").mkdir()
    assert adopt(folder, tmp_path / "result", max_length=32).quantization == "adopted"


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_checkpoint(tiny_kit, tmp_path, runtime):
    source = tmp_path / "checkpoint"
    shutil.copytree(tiny_kit / "student-torch", source)
    (source / "manifest.json").unlink()
    (tmp_path / "result").mkdir()
    manifest = adopt(source, tmp_path / "result", runtime=runtime)
    assert manifest.format == runtime
    assert manifest.max_length <= 160  # its positions
    if runtime == "onnx":
        expected = [answer.label for answer in Classifier(tiny_kit / "student-onnx").predict(TEXTS)]
        found = [answer.label for answer in Classifier(tmp_path / "result").predict(TEXTS)]
        assert found == expected


def test_a_bundle_stays_what_it_is(tiny_kit, tmp_path):
    (tmp_path / "result").mkdir()
    adopt(tiny_kit / "student-int8", tmp_path / "result")
    assert Classifier(tmp_path / "result").predict(TEXTS)


@pytest.mark.parametrize(("asked", "told"), [(7, ""), (33, "a bundle of at most 32 tokens")])
def test_a_bundle_is_cut_where_it_is_asked_to_be(tiny_kit, tmp_path, capsys, asked, told):
    out, long = tmp_path / "b", "cancel " * 9 + "refund"
    given = tiny_kit / "student-int8"
    code = main(["adopt", str(given), "--out", str(out), "--max-length", str(asked)])
    assert code == (1 if told else 0)
    assert told in capsys.readouterr().err
    if not told:
        found = Classifier(out)
        assert found.manifest.max_length == asked
        assert (found.logits([long]) == found.logits(["cancel " * 9 + "track"])).all()


def test_a_bundle_that_nothing_predicts_with_is_refused(tiny_kit, tmp_path, capsys):
    given = tiny_kit / "teacher-torch"
    assert main(["adopt", str(given), "--out", str(tmp_path / "b")]) == 1
    assert "take the kit's teacher-onnx" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("kind", ["Softmax", "Sigmoid"])
def test_a_graph_that_ends_in_probabilities_is_refused(exported, tmp_path, kind):
    """They would be turned into probabilities again: 0.54 where the model says 0.90."""
    folder = exported()
    model = onnx.load(folder / "model.onnx")
    model.graph.node.append(onnx.helper.make_node(kind, ["logits"], ["raw"]))
    model.graph.node.append(onnx.helper.make_node("Identity", ["raw"], ["scores"]))
    model.graph.output[0].name = "scores"
    onnx.save(model, folder / "model.onnx")
    (tmp_path / "result").mkdir()
    with pytest.raises(AdoptError, match=f"ends in {kind}, which makes probabilities"):
        adopt(folder, tmp_path / "result", max_length=32)


def test_a_model_that_reads_its_padding_is_refused(exported, tmp_path):
    folder = exported()
    model = onnx.load(folder / "model.onnx")
    for node in model.graph.node:  # it reads the ids in the place of what masks them
        for index, name in enumerate(node.input):
            if name == "attention_mask":
                node.input[index] = "all"
    ones = onnx.helper.make_node("Div", ["input_ids", "input_ids"], ["ones"])
    least = onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [], [1])
    model.graph.initializer.append(least)
    whole = onnx.helper.make_node("Max", ["input_ids", "one"], ["some"])
    ones.input[:] = ["some", "some"]
    final = onnx.helper.make_node("Identity", ["ones"], ["all"])
    for node in (final, ones, whole):
        model.graph.node.insert(0, node)
    for tensor in model.graph.initializer:
        if "word_embeddings" in tensor.name:
            table = onnx.numpy_helper.to_array(tensor).copy()
            table[0] *= 0
            table[0, ::2] = 50.0  # padding's own, of which there is more than of the text
            tensor.CopyFrom(onnx.numpy_helper.from_array(table, tensor.name))
    onnx.save(model, folder / "model.onnx")
    (tmp_path / "result").mkdir()
    with pytest.raises(AdoptError, match="answers otherwise in a batch than alone"):
        adopt(folder, tmp_path / "result", max_length=32)


def test_labels_that_the_model_does_not_answer_are_told_by_their_file(exported, tmp_path):
    folder = exported()
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b"}
    (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "result").mkdir()
    with pytest.raises(AdoptError, match=r"id2label in .*exported/config\.json") as found:
        adopt(folder, tmp_path / "result", max_length=32)
    assert str(tmp_path / "result") not in str(found.value)


def without(key):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        del config[key]
        (folder / "config.json").write_text(json.dumps(config))

    return change


def no_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def no_limits(folder):
    without("max_position_embeddings")(folder)
    (folder / "tokenizer_config.json").unlink()


def labels_from_one(folder):
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(int(key) + 1): name for key, name in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config))


def with_values(**values):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return change


FAULTS = {
    "a number a text": (with_values(problem_type="regression"), "one or several a text"),
    "one label": (with_values(id2label={"0": "LABEL_0"}), "has 1 label"),
    "fewer positions than asked for": (with_values(max_position_embeddings=16), "takes 3 to 16"),
    "positions from behind padding": (
        with_values(max_position_embeddings=33, model_type="roberta", pad_token_id=1),
        "takes 3 to 31",
    ),
    "no labels": (without("id2label"), "has no id2label"),
    "labels that count from 1": (labels_from_one, "counted from 0 to 2"),
    "no configuration": (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
    "no tokenizer": (no_tokenizer, "has no tokenizer.json, and none can be made"),
    "no limit of length": (no_limits, "does not say how many tokens"),
    "no model": (lambda f: (f / "model.onnx").write_bytes(b"x"), "is not an ONNX model"),
    "another model's labels": (
        lambda f: (f / "config.json").write_text('{"id2label": {"0": "a", "1": "b"}}'),
        "answers 3 scores, the manifest names 2 labels",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_told_is_refused(exported, tmp_path, fault):
    change, words = FAULTS[fault]
    folder = exported()
    change(folder)
    (tmp_path / "result").mkdir()
    with pytest.raises((AdoptError, BundleError), match=words):
        adopt(folder, tmp_path / "result", max_length=None if "limit" in fault else 32)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(AdoptError, match=r"holds no model.*there: notes\.txt"):
        kind_of(tmp_path)
    with pytest.raises(AdoptError, match="there is no such folder"):
        kind_of(tmp_path / "absent")


def test_labels_that_the_model_has_not():
    def check(labels, known):
        manifest = Manifest(format="onnx", labels=labels, max_length=8, parameters=1, files={})
        check_labels("mine", manifest, known, "single_label_classification")

    check(("a", "b", "c"), ["a", "b"])  # it may know more
    with pytest.raises(AdoptError, match=r"2 labels that the model has not \(b, c\)"):
        check(("a", "x"), ["a", "b", "c"])
