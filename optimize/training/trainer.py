"""The Trainer that teacher and student share: batches by length, shared among processes."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback

from optimize.models.attention import attention_for
from optimize.settings.training import TrainingSettings
from optimize.training.arguments import epochs_if_stopped, training_arguments
from optimize.training.averaging import WeightAverage
from optimize.training.batches import LengthBatches
from optimize.training.cross_entropy import hard_label_loss
from optimize.training.dataset import TrainingLoader, TrainingSet
from optimize.training.evaluation import compute_metrics, metric_of
from optimize.training.optimizer import linear_schedule, parameter_groups
from optimize.training.profile import Profile
from optimize.training.resume import last_whole_checkpoint
from optimize.training.run import Run


class ClassifierTrainer(Trainer):
    """Trains on a training set; by itself, on its labels alone.

    Args:
        settings: batches, learning rates and averaging.
        training_set: what to learn from.
        run: where it works, with whom, and who is told.
        **kwargs: as for ``transformers.Trainer``.
    """

    def __init__(
        self,
        *,
        settings: TrainingSettings,
        training_set: TrainingSet,
        run: Run,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            args=training_arguments(settings, run.work, metric_of(training_set.labels)),
            train_dataset=range(len(training_set.tokens)),
            compute_metrics=compute_metrics,
            **kwargs,
        )
        self.settings: Any = settings
        self.training_set = training_set
        self.run, self.processes, self.profile = run, run.processes, run.profile
        self.add_callback(_OptimizerSection(self.profile))
        self.remove_callback(PrinterCallback)
        # The loss is a mean over the batch; Trainer must not rescale it by the token count.
        self.model_accepts_loss_kwargs = False
        self.own: PreTrainedModel = kwargs["model"]  # never wrapped, unlike Trainer's `model`
        if settings.freeze_embeddings:
            self.own.get_input_embeddings().requires_grad_(requires_grad=False)
        self._average: WeightAverage | None = None
        if settings.ema:
            self._average = WeightAverage(self.own, settings.ema)
            self.args.load_best_model_at_end = False  # the average of all epochs is kept

    def fit(self) -> None:
        """Train, from the last whole checkpoint where a run was interrupted."""
        with warnings.catch_warnings():
            # Checkpoints are numbered; that a file system keeps no fine times does not matter.
            warnings.filterwarnings("ignore", message="mtime may not be reliable")
            checkpoint = last_whole_checkpoint(self.run)
            if checkpoint is not None and (epochs := epochs_if_stopped(Path(checkpoint))):
                self.args.num_train_epochs = epochs  # none is left, and the best is loaded
            self.train(resume_from_checkpoint=checkpoint)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches by length, each shared among the processes."""
        batches = LengthBatches(
            self.training_set.tokens.lengths,
            self.settings.batch_size,
            self.settings.seed,
            self.processes.rank,
            self.processes.count,
        )
        return TrainingLoader(self.training_set, batches, self.profile)

    def create_optimizer(self) -> torch.optim.Optimizer:
        """Fused AdamW whose learning rate falls from layer to layer where the recipe says so."""
        if self.optimizer is None:
            settings = self.settings
            groups = parameter_groups(
                self.own, settings.learning_rate, settings.layer_decay, settings.weight_decay
            )
            self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """A linear rise over the recipe's share of the steps, and a linear fall."""
        if self.lr_scheduler is None:
            chosen = self.create_optimizer() if optimizer is None else optimizer
            self.lr_scheduler = linear_schedule(
                chosen, num_training_steps, self.settings.warmup_ratio
            )
        return self.lr_scheduler

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any) -> Tensor:
        """One step, timed; the average takes up the weights that the step before has left."""
        if self._average is not None and self.state.global_step:
            self._average.update()
        with self.profile.section("backward"):  # less the forward pass inside it
            return super().training_step(model, inputs, *rest)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Loss of one batch, and the model's outputs when asked for."""
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        teacher = {
            name.removeprefix("teacher_"): inputs.pop(name)
            for name in list(inputs)
            if name.startswith("teacher_")
        }
        attention = attention_for(inputs["input_ids"].shape[1])
        with self.profile.section("forward"), attention:
            outputs = model(**inputs)
            logits = outputs.logits.float()
            if teacher:
                loss = self.taught_loss(logits, labels, teacher, inputs["attention_mask"])
            else:
                loss = hard_label_loss(logits, labels)
            if model.training:
                # Gradients are averaged over the processes: a larger share of the batch counts
                # for more.
                loss = loss * self._share(len(labels))
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def taught_loss(
        self, logits: Tensor, labels: Tensor, teacher: dict[str, Tensor], mask: Tensor
    ) -> Tensor:
        """The loss of a batch that a teacher has spoken of; here its labels' alone.

        Args:
            logits: shape (batch, labels).
            labels: class ids, shape (batch,); or of several labels a text, (batch, labels).
            teacher: what it said, by name.
            mask: 1 at a token, 0 at padding, shape (batch, tokens).
        """
        return hard_label_loss(logits, labels)

    def _share(self, size: int) -> float:
        if self.processes.count == 1:
            return 1.0
        sizes: Tensor = self.accelerator.gather(torch.tensor([float(size)]))
        return size * self.processes.count / float(sizes.sum())

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluation of the weights that would be kept, timed."""
        begun = self._average is not None and self.state.global_step > 0
        weights = self._average.applied() if self._average and begun else nullcontext()
        with self.profile.section("evaluation"), weights:
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and beside it the average, which a run that resumes needs."""
        with self.profile.section("checkpoints"):
            super().save_model(output_dir, _internal_call)
            if self._average is not None and self.args.should_save and output_dir is not None:
                self._average.save(Path(output_dir))

    def train(  # type: ignore[override]  # the rest is passed on as it is
        self, resume_from_checkpoint: Any = None, **kwargs: Any
    ) -> Any:
        """Train; the average goes on from the checkpoint's, and is what the model ends with."""
        if self._average is not None and resume_from_checkpoint is not None:
            self._average.load(Path(resume_from_checkpoint))
        result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        if self._average is not None:
            self._average.keep()
        return result


class _OptimizerSection(TrainerCallback):
    """Counts the optimizer's steps in a profile."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._open = ExitStack()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._open.enter_context(self._profile.section("optimizer"))

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._open.close()
