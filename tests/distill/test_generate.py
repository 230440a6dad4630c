"""Texts that a language model writes for the transfer set."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from conftest import tiny_rows
from optimize import settings as settings_module
from optimize.data import load as data
from optimize.data.splits import UNLABELLED
from optimize.data.transfer_set import TransferSet
from optimize.distill.generate import Writer
from optimize.models import checkpoint
from optimize.models.language_model import (
    GenerateError,
    Vocabulary,
    draw,
    load_language_model,
)
from optimize.pipeline.runner import Build, Runner
from optimize.settings.data import DataSettings
from optimize.settings.training import GenerateSettings
from optimize.training.batches import LengthBatches
from optimize.training.distributed import Processes
from optimize.training.run import Run

FOREIGN = ("öl", "čas")


def save_language_model(folder, end="<end>"):
    """A GPT-2 of random weights that knows the tiny texts' words, and a few foreign ones."""
    words = sorted({word for text, _ in tiny_rows(96) for word in text.split()})
    tokens = ["<unk>", "<end>", ":", "order:", *words, *FOREIGN, "parcels"]
    raw = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, "<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token=end).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokens), n_positions=64, n_embd=32, n_layer=2, n_head=2, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return save_language_model(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def train(tiny_data):
    return data.load(DataSettings(source=str(tiny_data))).train


@pytest.fixture(scope="module")
def model(language_model):
    return GPT2LMHeadModel.from_pretrained(language_model).eval()


def settings(language_model, **more):
    return GenerateSettings(checkpoint=str(language_model), **more)


def test_vocabulary_is_what_the_texts_use_and_what_their_characters_spell(language_model, model):
    tokenizer = checkpoint.load_tokenizer(str(language_model))
    rows = tokenizer(["where parcel please", "the money thing back"])["input_ids"]
    vocabulary = Vocabulary.of(rows, tokenizer)
    kept = set(tokenizer.convert_ids_to_tokens(vocabulary.kept.tolist()))
    assert {"where", "parcels", "<end>"} <= kept
    assert not {*FOREIGN, "17"} & kept
    assert vocabulary.kept[vocabulary.numbers(rows[0])].tolist() == rows[0]
    assert vocabulary.kept[vocabulary.end] == tokenizer.eos_token_id


def test_narrow_model_answers_as_the_whole_one(language_model, model):
    tokenizer = checkpoint.load_tokenizer(str(language_model))
    row = tokenizer("where parcel please")["input_ids"]
    vocabulary = Vocabulary.of([row], tokenizer)
    narrow = GPT2LMHeadModel.from_pretrained(language_model).eval()
    vocabulary.narrow(narrow)
    with torch.inference_mode():
        whole = model(torch.tensor([row])).logits[..., vocabulary.kept]
        ours = narrow(torch.tensor([vocabulary.numbers(row)])).logits
    torch.testing.assert_close(ours, whole)


def test_tokenizer_without_an_end_is_refused(tmp_path):
    tokenizer = checkpoint.load_tokenizer(str(save_language_model(tmp_path, end=None)))
    with pytest.raises(GenerateError, match=r"no end-of-text token; set generate\.checkpoint"):
        Vocabulary.of([[2]], tokenizer)


def test_likeliest_continuation_is_the_librarys_own(language_model, model):
    prompt = [5, 6]
    expected = model.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None
    )[0, 2:].tolist()
    rows = draw(model, prompt, 3, -1, 12, settings(language_model, top_k=1))
    assert rows == [expected] * 3


def test_a_models_own_way_of_drawing_is_not_the_recipes(language_model, tmp_path):
    """Under transformers 4 it would stand in wherever the recipe asks for the library's default."""
    folder = shutil.copytree(language_model, tmp_path / "lm")
    (folder / "generation_config.json").write_text(json.dumps(
        {"temperature": 0.01, "top_k": 1, "top_p": 0.1, "transformers_version": "4.57.0"}
    ))  # fmt: skip
    found = {}
    for name in (language_model, folder):
        torch.manual_seed(0)
        chosen = settings(name, temperature=1.0, top_k=50)
        found[name] = draw(load_language_model(str(name), None).eval(), [5], 20, 1, 5, chosen)
    assert found[folder] == found[language_model]
    assert len({tuple(row) for row in found[folder]}) > 5


def test_the_writer_sees_its_batches_anew_in_every_epoch(language_model, train):
    seen = []

    class Watch(LengthBatches):
        def set_epoch(self, epoch):
            seen.append(epoch)
            super().set_epoch(epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.distill.generate.LengthBatches", Watch)
        chosen = settings(language_model, epochs=2, texts=1)
        Writer(chosen, train, ("cancel", "refund", "track"), 16, lambda line: None).learn(None)
    assert seen == [0, 1]


def test_rows_end_where_the_text_ends_or_at_the_limit(language_model, model):
    torch.manual_seed(0)
    rows = draw(model, [5], 200, 1, 20, settings(language_model))
    assert {len(row) for row in rows} > {1, 20}
    for row in rows:
        assert 1 not in row[:-1]
        assert row[-1] == 1 or len(row) == 20


def test_tokens_are_drawn_as_often_as_the_model_says(language_model, model):
    """Also after rows have ended: what is drawn second goes by the row's own first token."""
    torch.manual_seed(0)
    chosen = settings(language_model, top_k=10_000, temperature=0.1)
    rows = [row for row in draw(model, [5], 4000, 1, 2, chosen) if len(row) == 2]
    first, count = Counter(row[0] for row in rows).most_common(1)[0]
    with torch.inference_mode():
        logits = model(torch.tensor([[5, first]])).logits[0, -1]
    expected = count * (logits / 0.1).double().softmax(dim=-1).numpy()
    seen = np.bincount([row[1] for row in rows if row[0] == first], minlength=len(expected))
    often = expected > 5
    together = [np.append(x[often], x[~often].sum()) for x in (seen, expected)]
    assert len(together[0]) > 5
    assert scipy.stats.chisquare(*together).pvalue > 1e-4


@pytest.mark.slow
def test_writer_learns_what_a_class_is_about(language_model, train):
    """Before it has learned, its texts of two classes are alike."""
    own = {"cancel": ("cancel", "stop", "end"), "track": ("track", "where", "parcel")}
    chosen = settings(language_model, texts=300, epochs=60, batch_size=4, learning_rate=2e-3)
    told = []
    writer = Writer(chosen, train, ("cancel", "refund", "track"), 16, told.append)

    def shares(label, name):
        made = [set(text.split()) for text in writer.drawn(label, 100)]
        return np.mean([bool(words & set(own[name])) for words in made])

    before = shares(0, "cancel") - shares(0, "track")
    writer.learn(None)
    after = shares(0, "cancel") - shares(0, "track")
    assert before < 0.3
    assert after > 0.5
    assert told[-1].startswith("loss ")


@pytest.mark.whole
def test_texts_are_new_distinct_and_the_same_for_a_seed(language_model, train):
    def made(**more):
        chosen = settings(
            language_model, texts=200, epochs=15, batch_size=4, learning_rate=2e-3, **more
        )
        writer = Writer(chosen, train, ("cancel", "refund", "track"), 16, lambda line: None)
        writer.learn(None)
        return writer.texts()

    texts = made()
    assert len(texts) == len(set(texts)) > 50
    assert not set(texts) & set(train.texts)
    assert texts == made() != made(seed=1)


def test_model_that_is_not_there_is_named(train):
    with pytest.raises(checkpoint.CheckpointError, match="'no/such-model'"):
        Writer(GenerateSettings(checkpoint="no/such-model"), train, ("a",), 16, print)


def test_student_learns_from_generated_texts_without_their_class(
    language_model, tiny_recipe, tiny_cache, tiny_kit
):
    overrides = [
        f"generate.checkpoint={language_model}",
        "generate.texts=60",
        "generate.epochs=15",
        "generate.batch_size=4",
        "generate.learning_rate=2e-3",
    ]
    chosen, _ = settings_module.load(str(tiny_recipe), None, overrides)
    runner = Runner(lambda line: None, tiny_cache)
    built, plain = Build(chosen, runner), Build(settings_module.load(str(tiny_recipe))[0], runner)
    transfer, without = (TransferSet(each.folder("transfer-set")) for each in (built, plain))
    added = list(transfer.texts())[len(without) :]
    assert len(added) > 20
    assert (transfer.labels[len(without) :] == UNLABELLED).all()
    assert built.stages["transfer-set"].key != plain.stages["transfer-set"].key


def test_several_processes_are_told_to_write_the_texts_first(language_model, tiny_recipe, tmp_path):
    overrides = [f"generate.checkpoint={language_model}"]
    chosen, _ = settings_module.load(str(tiny_recipe), None, overrides)
    stage = Build(chosen, Runner(lambda line: None, tmp_path)).stages["generated"]
    run = Run(tmp_path, lambda line: None, Processes(0, 2))
    with pytest.raises(GenerateError, match="2 processes cannot write texts together"):
        stage.function()(tmp_path, run, **stage.values)
