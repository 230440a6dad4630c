"""Distillation: a Trainer whose loss mixes the labels with what the teacher said."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from optimize.data.splits import Split
from optimize.distill import losses
from optimize.distill.projections import observe_student, project, remove_projections
from optimize.models.activations import Activations
from optimize.settings.training import DistillSettings
from optimize.training.arguments import callbacks
from optimize.training.cross_entropy import hard_label_loss
from optimize.training.dataset import TrainingSet
from optimize.training.evaluation import PaddingCollator, tokenised
from optimize.training.run import Run
from optimize.training.trainer import ClassifierTrainer


class DistillationTrainer(ClassifierTrainer):
    """Trains a student on batches that carry what the teacher said of them.

    A batch without ``teacher_logits``, as in evaluation, is scored by cross-entropy alone.

    Args:
        settings: the losses, their weights and the schedule.
        training_set: what to learn from.
        **kwargs: as for :class:`ClassifierTrainer`.

    Raises:
        DistillError: a loss asks for states that the targets do not hold or that do not fit.
    """

    def __init__(
        self, *, settings: DistillSettings, training_set: TrainingSet, **kwargs: Any
    ) -> None:
        # Before the optimizer and the averaged copy are made, which take in the projections.
        self._activations = observe_student(kwargs["model"], settings, training_set)
        super().__init__(settings=settings, training_set=training_set, **kwargs)

    def taught_loss(
        self, logits: Tensor, labels: Tensor, teacher: dict[str, Tensor], mask: Tensor
    ) -> Tensor:
        """The weighted sum of all losses; in the first epochs that of the inner states alone."""
        total = logits.new_zeros(())
        if (self.state.epoch or 0.0) >= self.settings.representation_epochs:
            total = total + self._logit_terms(logits, teacher["logits"], labels)
        if self._activations is not None:
            total = total + self._state_terms(self._activations, teacher, mask)
            self._activations.clear()
        return total

    def _logit_terms(self, logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        settings, temperature = self.settings, self.settings.temperature
        total = logits.new_zeros(())
        if settings.alpha:
            total = total + settings.alpha * hard_label_loss(logits, labels)
        if settings.kl and settings.alpha < 1:
            weight = (1 - settings.alpha) * settings.kl
            soft = losses.soft_target_loss
            if labels.ndim == 2:  # several labels a text
                soft = losses.binary_soft_target_loss
            total = total + weight * soft(logits, teacher, temperature)
        if settings.decoupled:
            decoupled = losses.decoupled_loss(logits, teacher, temperature, settings.non_target)
            total = total + settings.decoupled * decoupled
        if settings.logits:
            squared = losses.logit_loss(logits, teacher, centred=labels.ndim == 1)
            total = total + settings.logits * squared
        return total

    def _state_terms(
        self, activations: Activations, teacher: dict[str, Tensor], mask: Tensor
    ) -> Tensor:
        settings, student = self.settings, self.own
        total = teacher["logits"].new_zeros(())
        if settings.pooled or settings.cosine:
            ours = project(student, "pooled", activations.pooled)
            if settings.pooled:
                total = total + settings.pooled * losses.pooled_loss(ours, teacher["pooled"])
            if settings.cosine:
                total = total + settings.cosine * losses.cosine_loss(ours, teacher["pooled"])
        if settings.hidden:
            layers = [
                project(student, f"hidden{place}", state)
                for place, state in enumerate(activations.hidden)
            ]
            theirs = teacher["hidden"].chunk(len(layers), dim=-1)
            total = total + settings.hidden * losses.hidden_loss(layers, theirs, mask)
        if settings.relations:
            relation = losses.relation_loss(
                [state.float() for state in activations.relations],
                teacher["relations"].chunk(3, dim=-1),
                mask,
                settings.relation_heads,
            )
            total = total + settings.relations * relation
        return total

    def remove_hooks(self) -> None:
        """Leave the student as one would ship it: without hooks and projections."""
        if self._activations is not None:
            self._activations.remove()
        remove_projections(self.own)


def train_student(
    settings: DistillSettings,
    student: tuple[PreTrainedModel, PreTrainedTokenizerFast],
    training_set: TrainingSet,
    validation: Split,
    max_length: int,
    run: Run,
    *,
    pairs: bool = False,
) -> PreTrainedModel:
    """Train the student on the transfer set and what the teacher said of it.

    Args:
        settings: losses and training.
        student: model and its tokenizer; the model is trained in place.
        training_set: what it learns from.
        validation: chooses the epoch that is kept, unless weights are averaged.
        max_length: longest input in tokens.
        run: where it works, with whom, and who is told.
        pairs: whether each text is a pair.

    Raises:
        DistillError: a loss asks for states that the targets do not hold or that do not fit.
    """
    model, tokenizer = student
    trainer = DistillationTrainer(
        settings=settings,
        training_set=training_set,
        run=run,
        model=model,
        eval_dataset=tokenised(validation, tokenizer, max_length, pairs=pairs),
        data_collator=PaddingCollator(tokenizer),
        callbacks=callbacks(settings, run),
    )
    trainer.fit()
    trainer.remove_hooks()
    return model
