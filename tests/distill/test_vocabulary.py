"""Pruned vocabularies: what is left spells every text, and answers as before where it can."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification
from transformers import PreTrainedTokenizerFast as Fast

from optimize.distill.vocabulary import prune_vocabulary, rewritten, tokens_of
from optimize.models.encoder import StudentError

SYLLABLES = ["can", "cel", "re", "fund", "tra", "ck", "par", "mon", "ey", "where", "to", "day"]
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES if first != second]
TEXTS = [f"{WORDS[n % 131]} my {WORDS[n * 7 % 131]} {WORDS[n * 13 % 131]}" for n in range(300)]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece():
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return raw, trainers.WordPieceTrainer(vocab_size=160, special_tokens=SPECIALS)


def bpe():
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return raw, trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet
    )


def unigram():
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return raw, trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIALS, unk_token="[UNK]", show_progress=False
    )


KINDS = {"WordPiece": wordpiece, "BPE": bpe, "Unigram": unigram}


@pytest.fixture(params=KINDS)
def tokenizer(request):
    raw, trainer = KINDS[request.param]()
    raw.train_from_iterator(TEXTS, trainer)
    ids = [(token, raw.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ids
    )
    made = Fast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    made.kind = request.param
    return made


def fewer(tokenizer):
    """As many tokens as leave some words without theirs."""
    return len(tokenizer) - 25


def classifier(tokens):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokens, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, num_labels=3, pad_token_id=0,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def logits(model, tokenizer, texts):
    with torch.inference_mode():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def test_texts_come_back_as_they_were(tokenizer):
    """Also those that nobody counted, of words that nobody knew."""
    model, size = classifier(len(tokenizer)), fewer(tokenizer)
    held_out = ["refund the zebra today", "tracking canceled money", *TEXTS[:5]]
    before = [tokenizer.decode(tokenizer(text)["input_ids"]) for text in held_out]
    found = prune_vocabulary(model, tokenizer, TEXTS[:40], size, TEXTS)
    assert (found.tokens, len(tokenizer)) == (size, size)
    assert 0 < found.respelt < 1
    after = [tokenizer.decode(tokenizer(text)["input_ids"]) for text in held_out]
    assert after == before
    assert model.get_input_embeddings().num_embeddings == size == model.config.vocab_size


def test_answers_stay_where_tokens_do(tokenizer):
    model, size = classifier(len(tokenizer)), fewer(tokenizer)
    old = {text: tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) for text in TEXTS}
    expected = {text: logits(model, tokenizer, [text]) for text in TEXTS}
    prune_vocabulary(model, tokenizer, TEXTS[:40], size)
    same = [
        text
        for text in TEXTS
        if tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == old[text]
    ]
    assert len(same) >= 10
    for text in same:
        torch.testing.assert_close(logits(model, tokenizer, [text]), expected[text])


def test_it_is_saved_and_loaded(tokenizer, tmp_path):
    prune_vocabulary(classifier(len(tokenizer)), tokenizer, TEXTS[:40], fewer(tokenizer))
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*TEXTS[:5], "a zebra"]
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert loaded.pad_token_id == tokenizer.pad_token_id == 0


def test_a_merge_is_left_only_with_its_parts(tokenizer):
    prune_vocabulary(classifier(len(tokenizer)), tokenizer, TEXTS[:40], fewer(tokenizer))
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if tokenizer.kind != "BPE":
        assert "merges" not in content["model"]
        return
    for left, right in content["model"]["merges"]:
        assert {left, right, left + right} <= content["model"]["vocab"].keys()


def test_more_than_there_are_changes_nothing(tokenizer):
    model = classifier(len(tokenizer))
    before = tokenizer.backend_tokenizer.to_str()
    assert prune_vocabulary(model, tokenizer, TEXTS, 10**6).respelt == 0
    assert tokenizer.backend_tokenizer.to_str() == before


def test_fewer_than_the_characters_are_refused(tokenizer):
    with pytest.raises(StudentError, match="single characters of this tokenizer alone are"):
        prune_vocabulary(classifier(len(tokenizer)), tokenizer, TEXTS, 8)


def test_a_tokenizer_of_whole_words_is_refused():
    with pytest.raises(StudentError, match="of the kind WordLevel"):
        tokens_of({"model": {"type": "WordLevel", "vocab": {}}, "added_tokens": []})


PROCESSORS = [
    {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    {"type": "RobertaProcessing", "sep": ["</s>", 3], "cls": ["<s>", 2], "trim_offsets": True},
    {
        "type": "Sequence",
        "processors": [{"type": "BertProcessing", "sep": ["a", 3], "cls": ["b", 2]}],
    },
]


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda each: each["type"])
def test_every_way_to_add_special_tokens_has_the_new_ids(processor):
    content = {
        "model": {"type": "WordPiece", "vocab": {"a": 2, "b": 3, "gone": 0, "kept": 1}},
        "added_tokens": [{"id": 2, "content": "a"}, {"id": 3, "content": "b"}],
        "post_processor": processor,
        "padding": {"pad_id": 1, "pad_token": "kept"},
    }
    changed = rewritten(content, [1, 2, 3])
    inner = changed["post_processor"]
    inner = inner["processors"][0] if "processors" in inner else inner
    assert (inner["sep"][1], inner["cls"][1]) == (2, 1)
    assert changed["padding"]["pad_id"] == 0
    assert [token["id"] for token in changed["added_tokens"]] == [1, 2]


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=9))
def test_any_word_is_spelt_by_bytes(word):
    raw, trainer = bpe()
    raw.train_from_iterator(TEXTS[:50], trainer)
    made = Fast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]")
    prune_vocabulary(classifier(len(made)), made, TEXTS[:20], 290)
    assert made.decode(made(word)["input_ids"]) == word


def bare_wordpiece(vocabulary, unknown="[UNK]"):
    raw = Tokenizer(
        models.WordPiece(dict(zip(vocabulary, range(99), strict=False)), unk_token=unknown)
    )
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Fast(tokenizer_object=raw, pad_token="[PAD]")


def test_what_stands_for_the_unknown_is_kept_where_it_is_no_special_token():
    letters = [*"abcdefghij", *(f"##{each}" for each in "abcdefghij")]
    made = bare_wordpiece(
        ["[PAD]", *letters, *(f"word{n}" for n in range(40)), "<nobody>"], "<nobody>"
    )
    prune_vocabulary(classifier(len(made)), made, ["abc"], 30)
    assert made.tokenize("abc ß") == ["a", "##b", "##c", "<nobody>"]


def test_a_word_without_pieces_of_its_own_stays():
    """Else it would be unknown: no token has its letters."""
    made = bare_wordpiece(["[PAD]", "[UNK]", "order", "where", "a", "##a", "aa", *"bcdef"])
    prune_vocabulary(classifier(len(made)), made, ["where aa"], 10)
    assert made.tokenize("where aa order") == ["where", "a", "##a", "[UNK]"]
