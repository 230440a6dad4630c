"""A student whose vectors are narrower than its teacher's: projected, not begun from nothing.

All hidden states of a BERT flow along one residual path, so one projection serves them all: their
first principal components (as in Ashkboos et al. 2024, "SliceGPT", section 3.3, here without the
rotation of each layer). Each layer norm is fitted anew to what the old one said, channel by
channel. Of the attention's heads those stay that say most, of their own size (Michel et al. 2019,
"Are Sixteen Heads Really Better than One?", asks the same of gradients).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from optimize.models.encoder import StudentError, classification_head
from optimize.models.mean_pooled_bert import MeanPooledBert, check_bert, heads_of, set_heads

# Enough to tell 768 directions apart; of 12 layers of that width they take 1.5 GB.
TOKENS = 8192


def narrow_width(model: PreTrainedModel, answering: Generator[Tensor], width: int) -> float:
    """Make every hidden state ``width`` wide, in place.

    Args:
        model: a BERT classifier, of the first token or of the mean.
        answering: has it answer the texts that hidden states are read on, see
            :func:`optimize.models.observe.observed`.
        width: of the hidden states; whole heads of the attention.

    Returns:
        The share of the hidden states' variance that is kept, 0 to 1.

    Raises:
        StudentError: another family, a width that is no multiple of a head's, or more than there
            is.
    """
    whole = heads_kept(model, width)
    heads, size = min(whole, heads_of(model.config)), width // whole
    seen = _Seen(model, answering)
    states = torch.cat([out for _, out in seen.norms.values()])
    projection, share = _principal(states, width)
    base: Any = model.base_model
    _project_embeddings(base.embeddings, projection)
    for norm, (before, after) in seen.norms.items():
        _refit(norm, before @ projection, after @ projection)
    for layer in base.encoder.layer:
        attention, output = layer.attention.self, layer.attention.output.dense
        kept = _loudest(seen.contexts[output], heads, size)
        for linear in (attention.query, attention.key, attention.value):
            _set(linear, linear.weight[kept] @ projection, linear.bias[kept])
        set_heads(layer.attention, heads)
        _set(output, projection.T @ output.weight[:, kept], projection.T @ output.bias)
        linear = layer.intermediate.dense
        _set(linear, linear.weight @ projection, linear.bias)
        linear = layer.output.dense
        _set(linear, projection.T @ linear.weight, projection.T @ linear.bias)
    _narrow_head(model, projection, seen.pooled)
    model.config.hidden_size, model.config.num_attention_heads = width, whole
    if heads < whole or isinstance(model, MeanPooledBert):
        model.config.kept_heads = heads if heads < whole else None
    return share


def heads_kept(model: PreTrainedModel, width: int) -> int:
    """How many heads a layer has at that width.

    Raises:
        StudentError: see :func:`narrow_width`.
    """
    check_bert(model, "student.width", width)
    before = int(model.config.hidden_size)
    size = before // int(model.config.num_attention_heads)
    if width >= before or width % size:
        raise StudentError(
            f"student.width = {width}, but the model's hidden states are {before} wide, in heads "
            f"of {size}; ask for a multiple of {size} below {before}"
        )
    return width // size


class _Seen:
    """What a model's parts read and said on some texts, a row a token.

    Attributes:
        norms: of each layer norm, what it read and what it said.
        contexts: of each attention's output matrix, what it read.
        pooled: what the head's last matrix read, a row a text.
    """

    def __init__(self, model: PreTrainedModel, answering: Generator[Tensor]) -> None:
        base: Any = model.base_model
        norms = [base.embeddings.LayerNorm]
        for layer in base.encoder.layer:
            norms += [layer.attention.output.LayerNorm, layer.output.LayerNorm]
        outputs = [layer.attention.output.dense for layer in base.encoder.layer]
        head = classification_head(model)
        found: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {
            part: [] for part in (*norms, *outputs, head)
        }

        def note(part: nn.Module, read: tuple[Tensor, ...], said: Tensor) -> None:
            found[part].append((read[0], said))

        handles = [part.register_forward_hook(note) for part in found]
        tokens = 0
        for mask in answering:
            for pairs in found.values():
                read, said = pairs[-1]
                if read.ndim == 3:  # a state a token; what pads a text is none
                    pairs[-1] = (read[mask], said[mask])
            tokens += int(mask.sum())
            if tokens >= TOKENS:
                break
        answering.close()
        for handle in handles:
            handle.remove()

        def joined(part: nn.Module, side: int) -> Tensor:
            return torch.cat([pair[side] for pair in found[part]])

        self.norms = {part: (joined(part, 0), joined(part, 1)) for part in norms}
        self.contexts = {part: joined(part, 0) for part in outputs}
        self.pooled = joined(head, 0)


def _principal(states: Tensor, width: int) -> tuple[Tensor, float]:
    """The first principal components, a column each, and their share of the variance."""
    centred = (states - states.mean(dim=0)).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    share = float(values[-width:].sum() / values.sum())
    return vectors[:, -width:].flip(1).to(states.dtype), share


def _project_embeddings(embeddings: Any, projection: Tensor) -> None:
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        table = getattr(embeddings, name)
        table.weight = nn.Parameter(table.weight.detach() @ projection)
        table.embedding_dim = projection.shape[1]


def _refit(norm: nn.LayerNorm, read: Tensor, wanted: Tensor) -> None:
    """Scale and shift of each channel, by least squares, to what is wanted of what is read."""
    normal = nn.functional.layer_norm(read, (read.shape[1],), eps=norm.eps)
    centred = normal - normal.mean(dim=0)
    scale = (centred * wanted).sum(dim=0) / centred.square().sum(dim=0).clamp_min(1e-12)
    norm.weight = nn.Parameter(scale)
    norm.bias = nn.Parameter(wanted.mean(dim=0) - scale * normal.mean(dim=0))
    norm.normalized_shape = (read.shape[1],)


def _loudest(context: Tensor, heads: int, size: int) -> Tensor:
    """Columns of the heads whose vectors are the longest by the mean."""
    lengths: Tensor = context.reshape(len(context), -1, size).norm(dim=2).mean(dim=0)
    kept = lengths.topk(heads).indices.sort().values
    return (kept[:, None] * size + torch.arange(size)).flatten()


def _set(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight = nn.Parameter(weight.detach().clone())
    linear.bias = nn.Parameter(bias.detach().clone())
    linear.out_features, linear.in_features = linear.weight.shape


def _narrow_head(model: PreTrainedModel, projection: Tensor, pooled: Tensor) -> None:
    """Where there is a pooler, those of its values that say most are kept."""
    classifier = classification_head(model)
    pooler = getattr(model.base_model, "pooler", None)
    if pooler is None:
        _set(classifier, classifier.weight @ projection, classifier.bias)
        return
    said = pooled.abs().mean(dim=0) * classifier.weight.norm(dim=0)
    kept = said.topk(projection.shape[1]).indices.sort().values
    _set(pooler.dense, pooler.dense.weight[kept] @ projection, pooler.dense.bias[kept])
    _set(classifier, classifier.weight[:, kept], classifier.bias)
