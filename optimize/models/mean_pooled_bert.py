"""A BERT that answers from the mean of its tokens instead of the first one.

Sentence encoders learn with the mean of all tokens as the embedding of a text (Reimers and Gurevych
2019, "Sentence-BERT", section 3); what they leave at the first token was not trained. A student
made of one keeps what it knows if its head reads the same. transformers has no such BERT, so it has
a model type of its own: a library that does not know it refuses the checkpoint, where it would
answer from the first token otherwise.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertPreTrainedModel,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from optimize.models.encoder import StudentError


def check_poolable(model: PreTrainedModel) -> None:
    """Refuse a model that :func:`mean_pooled` does not know.

    Raises:
        StudentError: another family than BERT.
    """
    if not isinstance(model, BertForSequenceClassification):
        raise no_bert(model, 'student.pooling = "mean"', "leave it out")


def check_bert(model: PreTrainedModel, name: str, value: int) -> None:
    """Refuse a setting of the student that a BERT alone can have, of either pooling.

    Raises:
        StudentError: another family.
    """
    if not isinstance(model, BertForSequenceClassification | MeanPooledBert):
        raise no_bert(model, f"{name} = {value}", f'set {name} = "all"')


def no_bert(model: PreTrainedModel, asked: str, remedy: str) -> StudentError:
    """What is said of another family."""
    return StudentError(
        f"{asked} needs a BERT, and the student is a {type(model).__name__}; {remedy}"
    )


def mean_pooled(model: PreTrainedModel) -> MeanPooledBert:
    """The same encoder under a new head, which reads the mean of its tokens.

    Args:
        model: a BERT classifier, which MiniLM, BGE, GTE and E5 are too.

    Raises:
        StudentError: another family.
    """
    check_poolable(model)
    config = model.config.to_dict()
    del config["model_type"], config["architectures"]
    made = MeanPooledBert(MeanPooledBertConfig(**config))
    weights = model.base_model.state_dict()
    made.bert.load_state_dict({name: weights[name] for name in made.bert.state_dict()})
    return made


class MeanPooledBertConfig(BertConfig):
    """A BERT's, under another model type.

    Attributes:
        kept_heads: of each layer's attention, where some were cut; ``None`` where none was. A head
            has the size that ``num_attention_heads`` give it all the same.
    """

    model_type = "mean-pooled-bert"
    kept_heads: int | None = None


class MeanPooledBert(BertPreTrainedModel):
    """BERT, the mean of its last states, and a linear head.

    Args:
        config: of the encoder, with its labels.
    """

    config_class = MeanPooledBertConfig

    def __init__(self, config: MeanPooledBertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        if config.kept_heads:
            _make_fewer_heads(self.bert, config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Logits of shape (batch, labels), and their cross-entropy where labels are given.

        Args:
            input_ids: shape (batch, tokens).
            attention_mask: 1 at a token, 0 at padding, shape (batch, tokens).
            token_type_ids: shape (batch, tokens).
            labels: class ids, shape (batch,).
        """
        states = self.bert(
            input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        share = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * share).sum(dim=1) / share.sum(dim=1)
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # type: ignore[arg-type]


def head_size(config: Any) -> int:
    """Values of one head of a BERT's attention."""
    return int(config.hidden_size) // int(config.num_attention_heads)


def heads_of(config: Any) -> int:
    """How many heads a BERT's layer has."""
    return getattr(config, "kept_heads", None) or int(config.num_attention_heads)


def attention_width(config: Any) -> int:
    """Values of the queries of all heads of a layer: where none was cut, its hidden states'."""
    kept = getattr(config, "kept_heads", None)
    return kept * head_size(config) if kept else int(config.hidden_size)


def set_heads(attention: Any, heads: int) -> None:
    """Have a BERT's attention read its queries, keys and values as those of so many heads."""
    attention.self.num_attention_heads = heads
    attention.self.all_head_size = heads * attention.self.attention_head_size


def _make_fewer_heads(encoder: Any, config: MeanPooledBertConfig) -> None:
    """Matrices as a checkpoint with fewer heads has them, to be filled from it."""
    assert config.kept_heads is not None
    wide, narrow = config.hidden_size, config.kept_heads * head_size(config)
    for layer in encoder.encoder.layer:
        for name in ("query", "key", "value"):
            setattr(layer.attention.self, name, nn.Linear(wide, narrow))
        layer.attention.output.dense = nn.Linear(narrow, wide)
        set_heads(layer.attention, config.kept_heads)


AutoConfig.register(MeanPooledBertConfig.model_type, MeanPooledBertConfig)
AutoModelForSequenceClassification.register(MeanPooledBertConfig, MeanPooledBert)
