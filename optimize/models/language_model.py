"""A causal language model: loaded, narrowed to the tokens that its texts need, drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from optimize.models.checkpoint import CheckpointError, locate
from optimize.models.quiet import quiet
from optimize.settings.training import GenerateSettings

# Of a vocabulary of many languages, tokens beyond these are kept only where training texts use
# them: byte-pair merges are numbered by how common they are.
COMMON_TOKENS = 32768


class GenerateError(ValueError):
    """A language model that cannot write texts; the message gives the remedy."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a language model that its texts need, and their numbers among these.

    Most of a small multilingual model is its vocabulary, and each step computes all of it.

    Attributes:
        kept: ids in the whole vocabulary, rising, shape (kept,).
        end: number of the end-of-text token among the kept.
    """

    kept: NDArray[np.int64]
    end: int

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
        """The tokens of some texts, and common ones made of the same characters.

        Raises:
            GenerateError: the tokenizer has no end-of-text token.
        """
        end = tokenizer.eos_token_id
        if end is None:
            raise GenerateError(
                f"the tokenizer {tokenizer.name_or_path} has no end-of-text token; set "
                "generate.checkpoint to a causal language model"
            )
        used = {token for row in rows for token in row} | {end}
        plain = sorted(used - set(tokenizer.all_special_ids))
        known = set("".join(tokenizer.convert_ids_to_tokens(plain)))
        common = range(min(COMMON_TOKENS, len(tokenizer)))
        spelt = tokenizer.convert_ids_to_tokens(list(common))
        used |= {
            token
            for token, text in zip(common, spelt, strict=True)
            if text and known.issuperset(text)
        }
        kept = np.array(sorted(used), dtype=np.int64)
        return cls(kept, int(np.searchsorted(kept, end)))

    def numbers(self, row: Sequence[int]) -> list[int]:
        """Ids to numbers among the kept."""
        return [int(number) for number in np.searchsorted(self.kept, np.asarray(row))]

    def narrow(self, model: PreTrainedModel) -> None:
        """Leave the model no other tokens, in place."""
        inputs: Any = model.get_input_embeddings()
        outputs: Any = model.get_output_embeddings()
        tied = outputs.weight is inputs.weight
        rows = torch.from_numpy(self.kept)
        inputs.weight = nn.Parameter(inputs.weight.detach()[rows].clone())
        outputs.weight = (
            inputs.weight if tied else nn.Parameter(outputs.weight.detach()[rows].clone())
        )
        if getattr(outputs, "bias", None) is not None:
            outputs.bias = nn.Parameter(outputs.bias.detach()[rows].clone())
        inputs.num_embeddings = outputs.out_features = model.config.vocab_size = len(self.kept)
        inputs.padding_idx = None


def load_language_model(checkpoint: str, revision: str | None) -> PreTrainedModel:
    """A causal language model with float32 weights.

    Raises:
        CheckpointError: there is none.
    """
    try:
        with quiet():
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                locate(checkpoint),
                revision=revision,
                use_safetensors=True,  # a pickle could run code
                trust_remote_code=False,
                dtype=torch.float32,
                attn_implementation="eager",  # texts are short
            )
            # Its own would replace what the recipe asks for and equals a default of the library.
            model.generation_config = GenerationConfig()
            return model
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"generate.checkpoint {checkpoint!r} (revision {revision}) is no causal language model "
            f"that can be loaded: {error}"
        ) from error


def draw(
    model: PreTrainedModel,
    prompt: Sequence[int],
    count: int,
    end: int,
    limit: int,
    settings: GenerateSettings,
) -> list[list[int]]:
    """Continuations of a prompt, drawn token by token from the likeliest ones.

    Args:
        model: a causal language model.
        prompt: token numbers.
        count: continuations.
        end: the token that ends a text; below 0, none does.
        limit: most tokens of a continuation.
        settings: its temperature and ``top_k``.

    Returns:
        Token numbers a continuation, ``end`` included where it was reached.
    """
    generated: Any = model.generate(  # type: ignore[operator]  # transformers types it as a mix-in
        torch.tensor([list(prompt)], device=model.device),
        attention_mask=torch.ones((1, len(prompt)), dtype=torch.long, device=model.device),
        generation_config=GenerationConfig(
            do_sample=True,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=1.0,
            max_new_tokens=limit,
            num_return_sequences=count,
            eos_token_id=end if end >= 0 else None,
            pad_token_id=max(end, 0),
            use_cache=True,
        ),
    )
    rows = generated[:, len(prompt) :].tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in rows]
