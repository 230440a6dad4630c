"""A student without attention, which begins with what an encoder says of each token alone.

The encoder reads every token by itself, and its last state there is that token's vector; principal
components make it narrower, and frequent tokens begin with less weight (Tulkens and van Dongen
2024, "Model2Vec"; the weight a/(a + p) is of Arora et al. 2017, section 3). All of it learns on
from the teacher.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from optimize.distill.vocabulary import token_counts
from optimize.models.encoder import StudentError
from optimize.models.static_words import StaticWords, StaticWordsConfig

BATCH = 256
# Of Arora et al.: at this share of all tokens, a token begins with half of its weight.
HALF_WEIGHT_SHARE = 1e-3
LARGEST_LOGIT = 4.0


def static_student(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterable[str],
    width: int,
    dropout: float,
) -> StaticWords:
    """A student whose vectors are what an encoder says of each token.

    Args:
        model: the encoder, its vocabulary pruned already.
        tokenizer: its own.
        texts: those that the student learns from; how often a token is there is counted.
        width: of the vectors; at most the encoder's.
        dropout: while it learns.
    """
    states = _said_of_tokens(model.eval(), tokenizer)
    narrow = _principal(states, min(width, states.shape[1]))
    config = StaticWordsConfig(
        vocab_size=len(narrow),
        hidden_size=narrow.shape[1],
        inner_size=2 * narrow.shape[1],
        dropout=dropout,
        id2label=model.config.id2label,
        label2id=model.config.label2id,
        pad_token_id=tokenizer.pad_token_id,
    )
    made = StaticWords(config)
    counts = token_counts(tokenizer, texts)
    shares = torch.tensor([counts.get(token, 0) for token in range(len(narrow))], dtype=torch.float)
    shares /= max(1, counts.total())
    weight = HALF_WEIGHT_SHARE / (HALF_WEIGHT_SHARE + shares)
    with torch.no_grad():
        made.embeddings.weight.copy_(narrow)
        made.importance.weight.copy_(torch.logit(weight, 1e-2)[:, None].clamp(max=LARGEST_LOGIT))
    return made


def check_static_width(model: PreTrainedModel, width: int) -> None:
    """Refuse vectors wider than what they are taken from.

    Args:
        model: the encoder.
        width: asked for.

    Raises:
        StudentError: the encoder's states have fewer values.
    """
    own = int(model.config.hidden_size)
    if width > own:
        raise StudentError(
            f"student.width = {width}, and the encoder that a static student's vectors come from "
            f"has states of {own} values; ask for at most {own}"
        )


def _said_of_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """The encoder's last state of each token alone, shape (tokens, width)."""
    special = tokenizer("")["input_ids"]
    before, after = special[: len(special) // 2], special[len(special) // 2 :]
    table: Any = model.get_input_embeddings()
    tokens = int(table.num_embeddings)
    rows: list[torch.Tensor] = []
    with torch.inference_mode():
        for batch in torch.arange(tokens).split(BATCH):
            ids = torch.tensor([[*before, token, *after] for token in batch.tolist()])
            found = model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids))
            rows.append(found.last_hidden_state[:, len(before)])
    return torch.cat(rows).clone()


def _principal(vectors: torch.Tensor, width: int) -> torch.Tensor:
    """The first principal components, scaled to a mean length of 1."""
    centred = vectors - vectors.mean(dim=0)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    narrow: torch.Tensor = centred @ components[:width].T
    scaled: torch.Tensor = narrow / narrow.norm(dim=1).mean()
    return scaled
