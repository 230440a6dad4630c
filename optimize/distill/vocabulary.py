"""A student with the tokens that its texts need, and no others.

Half of a small encoder is word embeddings, most of which no text of the task ever reads. Kept are
the special tokens, every single character, and the tokens that the texts use most; then the rest in
the tokenizer's own order, which is by frequency or by the order of merges. Words that lose their
token are spelt with shorter ones: nothing becomes unknown that was known before.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from optimize.bundle.texts import PAIR_MARK
from optimize.models.encoder import StudentError
from optimize.models.quiet import quiet

CONTINUED = "##"
WORD_STARTS = ("▁", "Ġ")
UNUSED = re.compile(r"\[unused\d+\]|<unused\d+>|<extra_id_\d+>")
BATCH = 4096
# Fields of a configuration that are ids of tokens.
ID_FIELDS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id")


class Pruned(NamedTuple):
    """What pruning did.

    Attributes:
        tokens: that are left.
        before: that there were.
        respelt: share of the tokens of some texts that are now spelt with others.
    """

    tokens: int
    before: int
    respelt: float


def prune_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterable[str],
    size: int,
    held_out: Sequence[str] = (),
) -> Pruned:
    """Keep ``size`` tokens of a model and its tokenizer, both changed in place.

    Args:
        model: any encoder whose input embeddings are one table.
        tokenizer: its own; WordPiece, BPE or Unigram.
        texts: those that the student learns from.
        size: tokens to keep, special ones included.
        held_out: texts to tell the effect on.

    Raises:
        StudentError: the tokenizer is of another kind, or the characters alone are more.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    known = tokens_of(content)
    if size >= len(known):
        return Pruned(len(known), len(known), 0.0)
    counts = token_counts(tokenizer, texts)
    needed = _needed(content, known, tokenizer)
    needed |= _without_pieces(content, known, counts)
    _check_room(needed, size, ", with words of the texts that these cannot spell")
    kept = _chosen(content, known, counts, needed, size)
    seen = token_counts(tokenizer, held_out)
    lost = sum(count for token, count in seen.items() if token not in kept)
    # In the old order, so that the ids of padding and of special tokens stay at the front.
    order = sorted(kept)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(rewritten(content, order)))
    _select_embeddings(model, order)
    return Pruned(len(order), len(known), lost / max(1, seen.total()))


def check_vocabulary(tokenizer: PreTrainedTokenizerFast, size: int) -> None:
    """Refuse a number of tokens that no texts could make possible.

    Args:
        tokenizer: the student's, whole.
        size: tokens to keep.

    Raises:
        StudentError: special tokens and single characters alone are more, or the tokenizer is of a
            kind that cannot be pruned.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    known = tokens_of(content)
    if size < len(known):
        _check_room(_needed(content, known, tokenizer), size)


def _check_room(needed: Collection[int], size: int, more: str = "") -> None:
    if len(needed) > size:
        raise StudentError(
            f"student.vocabulary = {size}, but the special tokens and single characters of this "
            f"tokenizer alone are {len(needed)}{more}; ask for more"
        )


def tokens_of(content: Mapping[str, Any]) -> list[str]:
    """Every token of a ``tokenizer.json``, by id.

    Raises:
        StudentError: its model is of a kind that cannot be pruned.
    """
    model = content["model"]
    if model["type"] in ("WordPiece", "BPE"):
        ids = dict(model["vocab"])
    elif model["type"] == "Unigram":
        ids = {piece: place for place, (piece, _) in enumerate(model["vocab"])}
    else:
        raise StudentError(
            f"student.vocabulary: a tokenizer of the kind {model['type']} cannot be pruned; leave "
            "it out, or give student.checkpoint one of WordPiece, BPE or Unigram"
        )
    ids |= {token["content"]: token["id"] for token in content["added_tokens"]}
    tokens = [""] * (max(ids.values()) + 1)
    for token, place in ids.items():
        tokens[place] = token
    return tokens


def token_counts(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Counter[int]:
    """How often each token's id is in some texts."""
    found: Counter[int] = Counter()
    batch: list[str] = []

    def count() -> None:
        with quiet():
            for ids in tokenizer(batch, truncation=False)["input_ids"]:
                found.update(ids)
        batch.clear()

    for text in texts:
        batch.append(text.replace(PAIR_MARK, " "))
        if len(batch) == BATCH:
            count()
    if batch:
        count()
    return found


def _needed(
    content: Mapping[str, Any], known: Sequence[str], tokenizer: PreTrainedTokenizerFast
) -> set[int]:
    """Special tokens, single characters and bytes: without them a text could not be spelt."""
    special = {token["id"] for token in content["added_tokens"]} | {*tokenizer.all_special_ids}
    unknown = content["model"].get("unk_id")
    if unknown is None and (word := content["model"].get("unk_token")) in known:
        unknown = known.index(word)
    # RoBERTa's family counts positions from behind the id of padding: it is 1, and must not move.
    padding = tokenizer.pad_token_id or 0
    first = range(padding + 1) if padding <= 3 else ()
    end = content["model"].get("end_of_word_suffix") or ""
    single = {place for place, token in enumerate(known) if _is_single(token.removesuffix(end))}
    return special | single | {*first} | ({unknown} if unknown is not None else set())


def _without_pieces(
    content: Mapping[str, Any], known: Sequence[str], counts: Counter[int]
) -> set[int]:
    """Tokens of the texts that would be unknown without their own: a character has no token."""
    if content["model"]["type"] == "BPE":  # each is merged from single ones, which are kept
        return set()
    there = {*known}
    wordpiece = content["model"]["type"] == "WordPiece"

    def spelt(token: str) -> bool:
        if not wordpiece:
            return all(character in there for character in token)
        continued = token.startswith(CONTINUED)
        bare = token.removeprefix(CONTINUED)
        pieces = [CONTINUED + each if continued or at else each for at, each in enumerate(bare)]
        return all(piece in there for piece in pieces)

    return {place for place in counts if not spelt(known[place])}


def _is_single(token: str) -> bool:
    bare = token.removeprefix(CONTINUED)
    if bare.startswith(WORD_STARTS):
        bare = bare[1:]
    is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return len(bare) <= 1 or is_byte


def _chosen(
    content: Mapping[str, Any],
    known: Sequence[str],
    counts: Counter[int],
    needed: set[int],
    size: int,
) -> set[int]:
    """The ids to keep: those needed, then the most used, then the rest in their own order."""
    parts = _parts(content, known)
    kept = set(needed)
    used = [place for place, _ in counts.most_common()]
    rest = [place for place in range(len(known)) if place not in counts]
    # BERT's vocabulary begins with a thousand names that stand for nothing.
    rest.sort(key=lambda place: UNUSED.fullmatch(known[place]) is not None)
    for place in (*used, *rest):
        wanted = _with_parts(place, parts) - kept
        if len(kept) + len(wanted) <= size:
            kept |= wanted
        if len(kept) == size:
            break
    return kept


def _parts(content: Mapping[str, Any], known: Sequence[str]) -> Mapping[int, tuple[int, int]]:
    """Of BPE: the two tokens that each merged one is made of, without which it is never made."""
    if content["model"]["type"] != "BPE":
        return {}
    ids = {token: place for place, token in enumerate(known)}
    found: dict[int, tuple[int, int]] = {}
    prefix = content["model"].get("continuing_subword_prefix") or ""
    for left, right in map(_pair, content["model"]["merges"]):
        found.setdefault(ids[left + right.removeprefix(prefix)], (ids[left], ids[right]))
    return found


def _pair(merge: Any) -> tuple[str, str]:
    """A merge as either way of writing has it: two tokens, or both in one with a space."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _with_parts(place: int, parts: Mapping[int, tuple[int, int]]) -> set[int]:
    found, ahead = set(), [place]
    while ahead:
        each = ahead.pop()
        if each not in found:
            found.add(each)
            ahead += parts.get(each, ())
    return found


def rewritten(content: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """A ``tokenizer.json`` with the tokens of these old ids, in this order."""
    new = {old: place for place, old in enumerate(order)}
    model = dict(content["model"])
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in order if old < len(model["vocab"])]
        model["unk_id"] = new.get(model["unk_id"])
    else:
        model["vocab"] = {token: new[old] for token, old in model["vocab"].items() if old in new}
    if model["type"] == "BPE":
        prefix = model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            merge
            for merge, (left, right) in zip(
                model["merges"], map(_pair, model["merges"]), strict=True
            )
            if {left, right, left + right.removeprefix(prefix)} <= model["vocab"].keys()
        ]
    changed = {**content, "model": model}
    changed["added_tokens"] = [
        {**token, "id": new[token["id"]]} for token in content["added_tokens"]
    ]
    changed["post_processor"] = _with_new_ids(content.get("post_processor"), new)
    if content.get("padding"):
        padding = content["padding"]
        changed["padding"] = {**padding, "pad_id": new[padding["pad_id"]]}
    return changed


def _with_new_ids(processor: Any, new: Mapping[int, int]) -> Any:
    """A post-processor whose special tokens have their new ids."""
    if not isinstance(processor, dict):
        return processor
    changed = dict(processor)
    if processor["type"] == "Sequence":
        changed["processors"] = [_with_new_ids(each, new) for each in processor["processors"]]
    for role in ("sep", "cls"):
        if isinstance(processor.get(role), list):
            token, old = processor[role]
            changed[role] = [token, new[old]]
    if "special_tokens" in processor:
        changed["special_tokens"] = {
            name: {**token, "ids": [new[old] for old in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    return changed


def _select_embeddings(model: PreTrainedModel, order: Sequence[int]) -> None:
    """The rows of these ids, in this order."""
    before: Any = model.get_input_embeddings()
    new = {old: place for place, old in enumerate(order)}
    padding = before.padding_idx
    after = torch.nn.Embedding(
        len(order),
        before.embedding_dim,
        padding_idx=None if padding is None else new[padding],
        dtype=before.weight.dtype,
    )
    with torch.no_grad():
        after.weight.copy_(before.weight[torch.tensor(order)])
    model.set_input_embeddings(after)
    model.config.vocab_size = len(order)
    for field in ID_FIELDS:
        old = getattr(model.config, field, None)
        if isinstance(old, int):
            setattr(model.config, field, new.get(old))
