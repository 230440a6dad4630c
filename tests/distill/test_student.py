from itertools import pairwise

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from optimize.distill.student import _same_origin, make_student
from optimize.models.checkpoint import (
    CheckpointError,
    load_backbone,
    load_classifier,
    load_tokenizer,
    locate,
)
from optimize.models.encoder import StudentError, chosen_layers, keep_layers, parameter_count
from optimize.settings.training import StudentSettings

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
}
DISTIL = {"vocab_size": 50, "dim": 32, "n_heads": 2, "hidden_dim": 64, "n_layers": 4}
FAMILIES = {
    "Bert": SIZES,
    "MPNet": SIZES,
    "Roberta": SIZES,
    "XLMRoberta": SIZES,
    "Electra": SIZES | {"embedding_size": 32},
    "DistilBert": DISTIL,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_of_every_family_are_cut(family):
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family], num_labels=3)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    before = parameter_count(model)
    keep_layers(model, 2)
    assert parameter_count(model) < before
    ids = torch.tensor([[5, 6, 7]])
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (1, 3)
    # A saved and reloaded student has as many layers as the cut one.
    again = type(model)(type(config).from_dict(model.config.to_dict()))
    assert parameter_count(again) == parameter_count(model)


def test_model_without_a_layer_list_is_refused():
    config = transformers.FNetConfig(**{**SIZES, "num_labels": 2})
    model = transformers.FNetForSequenceClassification(config)
    model.base_model.encoder.layer = torch.nn.Sequential(*model.base_model.encoder.layer)
    with pytest.raises(StudentError, match="no list of encoder layers"):
        keep_layers(model, 2)


@given(st.integers(1, 24).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_a_number_of_layers_is_spread_evenly_up_to_the_last(case):
    wanted, available = case
    chosen = chosen_layers(wanted, available)
    assert len(set(chosen)) == wanted
    assert chosen == tuple(sorted(chosen))
    assert chosen[-1] == available
    gaps = {after - before for before, after in pairwise((0, *chosen))}
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("layers", [0, 7, (), (1, 1), (3, 2), (0, 1), (1, 7)])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(StudentError, match="6"):
        chosen_layers(layers, 6)


def test_student_from_the_teacher_has_its_very_layers(tiny_kit):
    teacher = str(tiny_kit / "teacher-torch")
    names = ("cancel", "refund", "track")
    student, _ = make_student(StudentSettings(layers=(2,)), teacher, names, 0)
    whole, _ = make_student(StudentSettings(), teacher, names, 0)
    kept, second = student.bert.encoder.layer[0], whole.bert.encoder.layer[1]
    for ours, theirs in zip(kept.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(student.classifier.weight, whole.classifier.weight)


def test_a_new_head_is_drawn_anew(tiny_kit):
    """Under transformers 5 too, which leaves alone what was loaded."""
    teacher, names = str(tiny_kit / "teacher-torch"), ("cancel", "refund", "track")
    heads = [
        make_student(StudentSettings(new_head=new), teacher, names, seed)[0].classifier
        for new, seed in ((False, 0), (True, 0), (True, 0), (True, 1))
    ]
    old, new, again, other = (head.weight.detach() for head in heads)
    assert torch.equal(new, again)
    assert not torch.equal(new, old)
    assert not torch.equal(new, other)
    assert heads[1].bias.abs().sum() == 0
    assert 0.01 < new.std() < 0.04


def test_student_from_a_checkpoint_gets_a_seeded_head(tiny_backbone):
    settings = StudentSettings(checkpoint=str(tiny_backbone))
    heads = [
        make_student(settings, "unused", ("a", "b"), seed)[0].classifier.weight
        for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_checkpoints_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="the package 'no_such_package' is not installed"):
        locate("package:no_such_package/model")
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        locate("package:optimize/sample")
    for load in (load_tokenizer, lambda place: load_backbone(place, ("a", "b"))):
        with pytest.raises(CheckpointError, match="checkpoint"):
            load(str(tmp_path / "nothing"))


def test_dropout_of_the_student_is_the_recipes(tiny_kit):
    settings = StudentSettings(layers=1, dropout=0.0)
    names = ("cancel", "refund", "track")
    model, _ = make_student(settings, str(tiny_kit / "teacher-torch"), names, 0)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}


@pytest.fixture
def modern(tmp_path):
    """A ModernBERT of 8 layers, of which 1, 4 and 7 attend to all tokens, the others to three."""
    ids = {f"{name}_token_id": number for number, name in enumerate(("pad", "cls", "sep"))}
    sizes = SIZES | {"num_hidden_layers": 8, "local_attention": 2} | ids
    config = transformers.ModernBertConfig(**sizes, num_labels=3)
    torch.manual_seed(0)
    model = transformers.ModernBertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "modern")
    return tmp_path / "modern"


@pytest.mark.parametrize("layers", [3, [1, 3, 7], [2, 3], [1, 2, 4]])
def test_layers_that_would_be_others_in_their_new_places_are_refused(modern, layers):
    model = load_classifier(str(modern))
    with pytest.raises(StudentError, match=r"of a modernbert.*Set student.layers = \[1, 2"):
        keep_layers(model, layers)


@pytest.mark.parametrize("layers", [[1, 2, 3], [1, 5, 6, 7], [1, 2, 6, 7, 8]])
def test_layers_that_stay_of_their_kind_are_read_back_as_they_were(modern, layers, tmp_path):
    model = load_classifier(str(modern)).eval()
    keep_layers(model, layers)
    model.save_pretrained(tmp_path / "cut")
    ids = torch.arange(5, 25)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    again = load_classifier(str(tmp_path / "cut")).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize(
    ("table", "same"),
    [
        ({}, True),
        ({"layers": 1}, True),
        ({"pooling": "mean"}, False),
        ({"shape": "static"}, False),
        ({"checkpoint": "another"}, False),
    ],
)
def test_states_mean_the_same_where_encoder_and_pooling_are_the_teachers(table, same):
    assert _same_origin(StudentSettings.model_validate({"checkpoint": "teacher", **table})) == same
