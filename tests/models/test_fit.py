"""Checkpoints as people have them: refused by name before anything trains, or read rightly."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import LABELS
from optimize.models import checkpoint
from optimize.models.checkpoint import CheckpointError, load_tokenizer
from optimize.models.encoder import StudentError
from optimize.models.fit import check_exportable, check_fit
from optimize.settings.training import StudentSettings

MAX_LENGTH = 32


@pytest.fixture
def folder(tiny_backbone, tmp_path):
    shutil.copytree(tiny_backbone, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def classifier(folder):
    """The same with a head, as one that was fine-tuned is saved."""
    checkpoint.load_backbone(str(folder), LABELS).save_pretrained(folder)
    return folder


def configured(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def fit(folder, max_length=MAX_LENGTH, *, fine_tuned=False, layers=None):
    return check_fit(str(folder), None, max_length, fine_tuned=fine_tuned, layers=layers)


def test_what_fits_is_taken(folder, classifier):
    fit(folder)
    fit(classifier, fine_tuned=True, layers=1)
    fit(classifier, 160)


def test_a_head_that_is_not_there_is_no_fine_tuned_classifier(folder):
    fit(folder)
    with pytest.raises(CheckpointError, match=r"classifier\.bias, classifier\.weight"):
        fit(folder, fine_tuned=True)


def test_weights_of_another_encoder_would_be_random(folder):
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layer.1" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 16 weights of the encoder"):
        checkpoint.load_backbone(str(folder), LABELS)


def test_a_head_of_other_labels_is_drawn_anew(classifier):
    model = checkpoint.load_backbone(str(classifier), ("a", "b", "c", "d", "e"))
    assert model.config.num_labels == model.classifier.out_features == 5


@pytest.mark.parametrize(
    ("changes", "max_length", "words"),
    [
        ({}, 161, "max_length = 161, but .* has 160 positions, of which 160 are for tokens"),
        ({"problem_type": "multi_label_classification"}, 32, "several labels a text"),
        ({"problem_type": "regression"}, 32, "a number a text"),
        ({"vocab_size": 20}, 32, "token ids up to 41, its model 20 rows of embeddings"),
        ({"num_attention_heads": 3}, 32, "no classifier can be made of its config.json"),
    ],
)
def test_numbers_that_do_not_fit(folder, changes, max_length, words):
    configured(folder, **changes)
    with pytest.raises(CheckpointError, match=words):
        fit(folder, max_length)


def roberta(folder):
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=34, pad_token_id=1, num_labels=3,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(folder)


def test_positions_that_are_counted_from_behind_padding(folder):
    roberta(folder)
    fit(folder, 32)
    with pytest.raises(CheckpointError, match="34 positions, of which 32 are for tokens"):
        fit(folder, 33)


def test_layers_that_are_not_there(folder):
    with pytest.raises(StudentError, match=r"student\.layers = 3, but the model has 2"):
        fit(folder, layers=3)
    assert StudentSettings(layers="all").layers is None


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"0": 5, "1": 6, "2": 7}, ("5", "6", "7")),
        ({"1": "a", "2": "b", "3": "c"}, "has the ids 1, 2, 3, but logits are counted from 0 to 2"),
        ({"0": "a", "2": "b"}, "has the ids 0, 2, but"),
        ({"0": "a", "1": "b", "2": "a"}, "'a' for several logits \\(0, 2\\)"),
    ],
)
def test_label_names(classifier, names, found):
    configured(classifier, id2label=names)
    if isinstance(found, tuple):
        assert checkpoint.label_names(str(classifier)) == found
    else:
        with pytest.raises(CheckpointError, match=found):
            checkpoint.label_names(str(classifier))


def test_a_folder_that_is_not_there(folder):
    with pytest.raises(CheckpointError, match=rf"no such folder \(closest: {folder}\)"):
        fit(folder.parent / "modle")
    with pytest.raises(CheckpointError, match="nor a folder /nowhere"):
        fit("/nowhere/model")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        fit(folder)


@pytest.mark.parametrize(
    "given", ["./bert", "../models/bert", "a/b/c", "~/bert", "C:\\bert", "a b"]
)
def test_what_can_only_be_a_folder_is_not_asked_of_the_hub(given):
    with pytest.raises(CheckpointError, match="there is no such folder"):
        checkpoint.locate(given)


@pytest.mark.parametrize("given", ["bert-base-uncased", "google/bert_uncased_L-4"])
def test_an_id_of_the_hub_stays_one(given):
    assert checkpoint.locate(given) == given


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickle \(\.bin\).*save_pretrained"):
        fit(folder)


def test_weights_that_are_cut_short_are_one_kind_of_error(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be loaded: SafetensorError"):
        checkpoint.load_backbone(str(folder), LABELS)


def test_code_of_its_own_is_refused_naming_the_key(folder, monkeypatch):
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    configured(folder, model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(CheckpointError, match=r"auto_map: .*evil\.Config.*never"):
        fit(folder)


def test_code_under_a_known_name_is_refused(folder):
    """What transformers has under that name is another model, whose weights would be random."""
    configured(folder, auto_map={"AutoTokenizer": ["tokens.Own", None]})
    fit(folder)
    configured(folder, auto_map={"AutoModel": "modeling_own.OwnBert"})
    with pytest.raises(CheckpointError, match=r"OwnBert.*delete auto_map where"):
        fit(folder)


def test_weights_that_are_no_numbers_are_refused(classifier):
    weights = load_file(classifier / "model.safetensors")
    weights["classifier.bias"][1] = float("nan")
    save_file(weights, classifier / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"classifier\.bias holds what is no finite number"):
        fit(classifier, fine_tuned=True)


def test_labels_that_the_head_has_not_are_told_by_their_number(classifier):
    configured(classifier, id2label={"0": "a", "1": "b", "2": "c", "3": "d"})
    with pytest.raises(
        CheckpointError, match=r"has 4 labels \(id2label\).*Correct config"
    ) as found:
        fit(classifier, fine_tuned=True)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", ["GPT2", "Llama", "XLNet", "Bart"])
def test_what_generates_text_is_no_encoder(kind):
    import transformers

    config = getattr(transformers, f"{kind}Config")()
    with pytest.raises(CheckpointError, match=r"which generates text; .* set student\.checkpoint"):
        check_exportable("given", config)


@pytest.mark.parametrize(
    "kind",
    ["Bert", "DistilBert", "Roberta", "XLMRoberta", "Electra", "MPNet", "DebertaV2", "ModernBert",
     "Albert", "Camembert"],
)  # fmt: skip
def test_encoders_are_exported(kind):
    import transformers

    check_exportable("given", getattr(transformers, f"{kind}Config")())


def test_token_types_that_the_model_does_not_take_are_left_out(folder):
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    size = len(checkpoint.load_tokenizer(str(folder)))
    assert "token_type_ids" in checkpoint.load_tokenizer(str(folder)).model_input_names
    config = DistilBertConfig(vocab_size=size, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    assert checkpoint.load_tokenizer(str(folder)).model_input_names == [
        "input_ids", "attention_mask",
    ]  # fmt: skip


def test_every_loader_of_a_checkpoint_refuses_its_code():
    """Any `from_pretrained` that is added without it fails here."""
    import ast
    from pathlib import Path

    import optimize

    calls = [
        (path.name, node)
        for path in Path(optimize.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained"
    ]
    assert calls
    for name, call in calls:
        if ast.unparse(call.func) == "ORTQuantizer.from_pretrained":
            continue  # it reads an ONNX file of ours, and knows no such argument
        given = {each.arg: each.value for each in call.keywords}
        trusted = given.get("trust_remote_code")
        assert isinstance(trusted, ast.Constant), name
        assert trusted.value is False, name


def test_a_folder_without_a_tokenizer_is_refused(tiny_backbone, tmp_path):
    """transformers 5 makes an empty tokenizer of it, for which every word is unknown."""
    folder = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"has no tokenizer \(there: config\.json"):
        checkpoint.load_tokenizer(str(folder))


def test_a_tokenizer_without_padding_fills_with_a_token_that_is_special_already(
    tiny_backbone, tmp_path
):
    shutil.copytree(tiny_backbone, tmp_path / "none")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (file := tmp_path / "none" / name).is_file():
            content = json.loads(file.read_text())
            content.pop("pad_token", None)
            file.write_text(json.dumps(content))
    found = load_tokenizer(str(tmp_path / "none"))
    assert found.pad_token == found.sep_token
    texts = ["where is my parcel", "refund"]
    rows = found(texts, padding=True)
    plain = load_tokenizer(str(tiny_backbone))(texts, padding=True)
    assert rows["attention_mask"] == plain["attention_mask"]
    assert rows["input_ids"][0] == plain["input_ids"][0]


def test_buffers_and_several_files_hide_no_half_precision(classifier, folder, tmp_path):
    file = folder / "model.safetensors"
    weights = {name: value.half() for name, value in load_file(file).items()}
    save_file(weights | {"bert.embeddings.position_ids": torch.arange(160)[None]}, file)
    assert checkpoint._float_formats(str(folder), None) == {"F16"}
    first, *others = weights
    save_file({first: weights[first]}, folder / "a.safetensors")
    save_file({name: weights[name] for name in others}, folder / "b.safetensors")
    file.unlink()
    placed = {first: "a.safetensors"} | dict.fromkeys(others, "b.safetensors")
    content = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    assert checkpoint._float_formats(str(folder), None) == {"F16"}


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_given_teacher_weighs_what_its_file_does(classifier, tmp_path, precision):
    """Told by the weights themselves: a config.json may say otherwise."""
    file = classifier / "model.safetensors"
    dtype = getattr(torch, precision)
    save_file({k: v.to(dtype) for k, v in load_file(file).items()}, file, {"format": "pt"})
    configured(classifier, torch_dtype="float16", dtype="float16")
    loaded = checkpoint.load_classifier(str(classifier))
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    checkpoint.as_stored(loaded, str(classifier)).save_pretrained(tmp_path / "kept")
    kept = tmp_path / "kept"
    assert {value.dtype for value in load_file(kept / "model.safetensors").values()} == {dtype}
    again = checkpoint.load_classifier(str(kept)).state_dict()
    for name, value in before.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0)
