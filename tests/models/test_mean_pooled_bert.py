"""A BERT whose head reads the mean of its tokens."""

import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from optimize import Classifier, settings
from optimize.bundle.folder import read_manifest
from optimize.distill.student import make_student
from optimize.judge.kit import read_kit
from optimize.judge.workers.process import WorkerProcess, WorkerSpec
from optimize.models import checkpoint
from optimize.models.encoder import StudentError
from optimize.models.mean_pooled_bert import MeanPooledBert, mean_pooled
from optimize.pipeline import runner as pipeline
from optimize.settings.training import StudentSettings

NAMES = ("cancel", "refund", "track")


@pytest.fixture
def backbone(tiny_backbone):
    return checkpoint.load_backbone(str(tiny_backbone), NAMES).eval()


@pytest.fixture
def batch():
    """Two texts, the second of two tokens and two of padding."""
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def test_logits_are_the_heads_of_the_mean_without_padding(backbone, batch):
    model = mean_pooled(backbone).eval()
    with torch.inference_mode():
        states = backbone.bert(**batch).last_hidden_state
        means = torch.stack([states[0].mean(dim=0), states[1, :2].mean(dim=0)])
        torch.testing.assert_close(model(**batch).logits, model.classifier(means))
        alone = {name: value[1:, :2] for name, value in batch.items()}
        torch.testing.assert_close(model(**alone).logits, model(**batch).logits[1:])


def test_it_is_loaded_again_by_name_and_is_no_plain_bert(backbone, batch, tmp_path):
    model = mean_pooled(backbone).eval()
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).model_type == "mean-pooled-bert"
    again = checkpoint.load_classifier(str(tmp_path)).eval()
    assert isinstance(again, MeanPooledBert)
    assert again.config.id2label == dict(enumerate(NAMES))
    with torch.inference_mode():
        torch.testing.assert_close(again(**batch).logits, model(**batch).logits)


def test_a_library_that_does_not_know_it_refuses_it(backbone, tmp_path, monkeypatch):
    mean_pooled(backbone).save_pretrained(tmp_path)
    # As where `optimize` is not installed: nobody has registered the type.
    monkeypatch.delitem(CONFIG_MAPPING._extra_content, "mean-pooled-bert")
    with pytest.raises(ValueError, match="`mean-pooled-bert` but Transformers does not recognize"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_a_student_has_its_layers_its_pooling_and_no_dropout(tiny_backbone):
    asked = StudentSettings(checkpoint=str(tiny_backbone), layers=1, pooling="mean", dropout=0.0)
    student, _ = make_student(asked, "", NAMES, 0)
    assert isinstance(student, MeanPooledBert)
    assert len(student.bert.encoder.layer) == student.config.num_hidden_layers == 1
    assert student.bert.pooler is None
    assert student.dropout.p == 0


@pytest.fixture(scope="module")
def kit(tiny_recipe, tiny_cache):
    """The whole chain, evaluation after each epoch included."""
    asked = ["student.pooling=mean", "distill.misspelt=1", "distill.pooled=1.0"]
    chosen, _ = settings.load(str(tiny_recipe), None, asked)
    return read_kit(pipeline.build(chosen, lambda line: None, tiny_cache))


def test_it_learns_and_answers_from_int8(kit):
    examples, names = kit.examples("validation"), kit.manifest.labels
    assert read_manifest(kit.folder / "student-int8").recipe["student"]["pooling"] == "mean"
    answers = Classifier(kit.folder / "student-int8").predict(examples.texts)
    right = [a.label == names[y] for a, y in zip(answers, examples.labels, strict=True)]
    assert sum(right) > 18


@pytest.mark.whole
def test_the_judge_holds_it_in_pytorch_too(kit):
    texts = kit.examples("test").texts
    answers = []
    for variant in ("student-torch", "student-onnx"):
        with WorkerProcess(WorkerSpec("w", kit.folder / variant, 1), texts[0]) as worker:
            answers.append(worker.ask("predict", texts=list(texts), batch_size=1))
    assert answers[0]["labels"] == answers[1]["labels"]
    assert answers[0]["confidences"] == pytest.approx(answers[1]["confidences"], abs=1e-3)


def test_the_loss_is_the_cross_entropy(backbone, batch):
    model, labels = mean_pooled(backbone).eval(), torch.tensor([2, 0])
    with torch.inference_mode():
        found = model(**batch, labels=labels)
        expected = torch.nn.functional.cross_entropy(found.logits, labels)
    torch.testing.assert_close(found.loss, expected)


def test_another_family_is_refused(tmp_path):
    config = AutoConfig.for_model(
        "distilbert", vocab_size=50, dim=32, n_heads=2, hidden_dim=64, n_layers=2
    )
    other = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(StudentError, match=r"needs a BERT, and the student is a DistilBert"):
        mean_pooled(other)


def test_its_type_is_registered_before_any_configuration_is_read(backbone, tmp_path, monkeypatch):
    """As the teacher of a recipe: its configuration is read long before its weights."""
    mean_pooled(backbone).save_pretrained(tmp_path)
    registry = "optimize.models.own_types"
    # As where nothing was loaded yet.
    monkeypatch.delitem(sys.modules, registry, raising=False)
    monkeypatch.delattr(registry, raising=False)
    assert checkpoint.label_names(str(tmp_path)) == tuple(NAMES)
    assert registry in sys.modules
