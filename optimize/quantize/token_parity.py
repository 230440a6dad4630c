"""Whether a bundle makes the same tokens of a text as the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimize.bundle.encoder import TextEncoder
from optimize.bundle.manifest import Manifest
from optimize.bundle.texts import PAIR_MARK, shown
from optimize.models.checkpoint import load_tokenizer
from optimize.models.inputs import tokenizer_inputs
from optimize.quantize.parity import ExportError

# Texts that are joined until they are longer than the model takes, to see on which side they are
# cut.
LONG_TEXTS = 16
SHOWN = 12


def _repeated(text: str, times: int) -> str:
    """A text, or both texts of a pair, so many times."""
    return PAIR_MARK.join(" ".join([part] * times) for part in text.split(PAIR_MARK))


def check_tokens(model: Path, bundle: Path, manifest: Manifest, texts: Sequence[str]) -> None:
    """Compare the bundle's token ids with those of the trained model's own tokenizer.

    Args:
        model: folder of the PyTorch model.
        bundle: folder that has a ``tokenizer.json``.
        manifest: the bundle's.
        texts: real ones; some are joined to more than ``max_length`` tokens as well.

    Raises:
        ExportError: they differ; names the first text and where.
    """
    tokenizer, encoder = load_tokenizer(str(model)), TextEncoder(bundle, manifest)
    length = manifest.max_length
    # Each token has a character at least.
    tried = [*texts, *(_repeated(text, length) for text in texts[:LONG_TEXTS])]
    inputs = tokenizer_inputs(tried, pairs=manifest.text_pair)
    trained = tokenizer(*inputs, truncation=True, max_length=length)["input_ids"]
    for rows, batch in encoder.batches(tried, 1):
        (row,) = rows
        deployed = batch["input_ids"][0].tolist()
        if deployed != trained[row]:
            pairs = zip(trained[row], deployed, strict=False)
            shorter = min(len(trained[row]), len(deployed))
            at = next((place for place, (a, b) in enumerate(pairs) if a != b), shorter)
            raise ExportError(
                f"the bundle makes other tokens of a text than the model learned with, from token "
                f"{at} on: trained {trained[row][at : at + SHOWN]}, deployed "
                f"{deployed[at : at + SHOWN]}, text {shown(tried[row])[:200]!r}. Its "
                "tokenizer.json and tokenizer_config.json do not agree, e.g. on truncation_side or "
                "do_lower_case; save the tokenizer anew with save_pretrained()."
            )
