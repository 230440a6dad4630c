"""A classifier without attention: word-piece embeddings, their weighted mean, and two layers.

Each token has one vector, whatever stands beside it. What is left of an encoder is what it says of
single words; that is fast, since no product grows with the text, and for short texts of known kinds
it is often enough.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput


class StaticWordsConfig(PretrainedConfig):
    """Sizes of a :class:`StaticWords`.

    Args:
        vocab_size: tokens.
        hidden_size: width of a token's vector.
        inner_size: width between the two layers.
        dropout: before each layer.
        **more: labels, ids of special tokens.
    """

    model_type = "static-words"

    def __init__(
        self,
        vocab_size: int = 1000,
        hidden_size: int = 256,
        inner_size: int = 512,
        dropout: float = 0.1,
        **more: Any,
    ) -> None:
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.inner_size, self.dropout = inner_size, dropout
        super().__init__(**more)


class StaticWords(PreTrainedModel):
    """Embeddings, a weight for each token, the mean, and two layers.

    Args:
        config: its sizes, with its labels.
    """

    config_class = StaticWordsConfig
    base_model_prefix = "words"
    main_input_name = "input_ids"

    def __init__(self, config: StaticWordsConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.importance = nn.Embedding(config.vocab_size, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.inner = nn.Linear(config.hidden_size, config.inner_size)
        self.classifier = nn.Linear(config.inner_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """New layers; what an encoder says replaces the embeddings afterwards."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)

    def get_input_embeddings(self) -> nn.Module:
        """The table of tokens."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace it."""
        self.embeddings = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Logits of shape (batch, labels), and their cross-entropy where labels are given.

        Args:
            input_ids: shape (batch, tokens).
            attention_mask: 1 at a token, 0 at padding, shape (batch, tokens).
            labels: class ids, shape (batch,).
        """
        weights = torch.sigmoid(self.importance(input_ids))
        weights = weights * attention_mask.unsqueeze(-1).to(weights.dtype)
        pooled = (self.embeddings(input_ids) * weights).sum(dim=1) / (weights.sum(dim=1) + 1e-6)
        inner = functional.relu(self.inner(self.dropout(pooled)))
        logits = self.classifier(self.dropout(inner))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # type: ignore[arg-type]


AutoConfig.register(StaticWordsConfig.model_type, StaticWordsConfig)
AutoModelForSequenceClassification.register(StaticWordsConfig, StaticWords)
