"""Whether an exported model is the PyTorch model, on real texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from optimize.bundle.encoder import TextEncoder
from optimize.bundle.folder import MODEL_NAME
from optimize.bundle.manifest import Manifest
from optimize.bundle.session import checked_facts, open_session
from optimize.bundle.texts import PAIR_MARK, parted, shown

PARITY_BATCHES = (1, 2, 7)
PARITY_LENGTHS = (1, 16, 128)
# Special tokens of a pair, and one of each text at least.
PAIR_SPECIAL = 6


class ExportError(RuntimeError):
    """An exported model that is not the PyTorch model; the message holds the worst example."""


def check_parity(
    model: PreTrainedModel,
    folder: Path,
    manifest: Manifest,
    texts: Sequence[str],
    tolerance: float,
) -> float:
    """Compare an exported model's logits with PyTorch's over real texts.

    Every batch size of ``PARITY_BATCHES`` is tried at every length of ``PARITY_LENGTHS``, with
    texts joined or cut to that many tokens.

    Returns:
        The largest absolute difference of a logit.

    Raises:
        ExportError: above ``tolerance``, or another argmax; names the worst text.
    """
    content = (folder / MODEL_NAME).read_bytes()
    session = open_session(content, 0, folder, checked_facts(content, folder))
    wanted = {node.name for node in session.get_inputs()}
    worst = 0.0
    positions = getattr(model.config, "max_position_embeddings", 512) - 2
    special = PAIR_SPECIAL if manifest.text_pair else 2
    for length in PARITY_LENGTHS:
        tokens = min(length + special, positions)
        encoder = TextEncoder(folder, msgspec.structs.replace(manifest, max_length=tokens))
        rotated = [[*texts[start:], *texts[:start]] for start in range(7)]
        joined = [_joined(each, length * 12, pairs=manifest.text_pair) for each in rotated]
        for size in PARITY_BATCHES:
            for rows, batch in encoder.batches(joined[:size], size):
                feed = {name: array for name, array in batch.items() if name in wanted}
                tried = [joined[row] for row in rows]
                ours = session.run(None, feed)[0]
                theirs = _torch_logits(model, feed)
                if not np.isfinite(theirs).all():
                    raise ExportError(
                        "the PyTorch model answers with what is no finite number (NaN or "
                        f"infinity) to {tried[0][:60]!r}: it has diverged; train it again with a "
                        "smaller learning_rate"
                    )
                gap = np.abs(ours - theirs).max(axis=1)
                worst = max(worst, float(gap.max()))
                one_label = not manifest.multi_label
                _refuse_gap(ours, theirs, gap, tried, tolerance, one_label=one_label)
    return worst


def _joined(texts: Sequence[str], most: int, *, pairs: bool) -> str:
    """Texts as a long one; pairs as a pair of long ones."""
    sides = zip(*map(parted, texts), strict=True) if pairs else [texts]
    return PAIR_MARK.join(" ".join(side)[:most] for side in sides)


def _torch_logits(
    model: PreTrainedModel, feed: dict[str, NDArray[np.int64]]
) -> NDArray[np.float32]:
    model.eval()
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
        logits: NDArray[np.float32] = model(**tensors).logits.float().numpy()
    return logits


def _refuse_gap(
    ours: NDArray[np.float32],
    theirs: NDArray[np.float32],
    gap: NDArray[np.float32],
    texts: Sequence[str],
    tolerance: float,
    *,
    one_label: bool,
) -> None:
    wrong = ~(gap <= tolerance)
    if one_label:
        wrong |= ours.argmax(axis=1) != theirs.argmax(axis=1)
    if wrong.any():
        row = int(np.argmax(np.where(wrong, np.nan_to_num(gap, nan=np.inf), -1)))
        raise ExportError(
            f"the ONNX model answers {int(ours[row].argmax())} where PyTorch answers "
            f"{int(theirs[row].argmax())}, logits differ by up to {gap[row]:.2e} (tolerance "
            f"{tolerance:.0e}, batch {len(texts)}) for {shown(texts[row])[:80]!r}. Try "
            "export.fuse = false, or another export.opset."
        )
