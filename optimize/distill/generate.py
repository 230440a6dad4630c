"""More texts for the transfer set: a language model learns the training texts and writes others.

He et al. 2022, "Generate, Annotate, and Learn" (TACL 10): a causal language model is fine-tuned on
the texts of the task, unlabelled texts are drawn from it, and the teacher labels them. Drawn within
a class, as here, they cover rare classes too; the class that one was drawn for is not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from optimize.data.arrays import padded
from optimize.data.splits import UNLABELLED, Split, TrainingData
from optimize.data.transfer_set import TEXTS_NAME, write_texts
from optimize.models.checkpoint import load_tokenizer
from optimize.models.language_model import GenerateError, Vocabulary, draw, load_language_model
from optimize.settings.training import GenerateSettings
from optimize.training.batches import LengthBatches
from optimize.training.dataset import LengthLoader
from optimize.training.optimizer import linear_schedule
from optimize.training.run import Run
from optimize.workspace import Tell

DRAWN_TOGETHER = 256
# Texts longer than all but this share of the training texts are not drawn to their end.
LONGEST_SHARE = 0.95
TELL_EVERY = 10_000
WARMUP_RATIO = 0.1


def build_generated(
    result: Path,
    run: Run,
    *,
    settings: GenerateSettings,
    max_length: int,
    precision: str,
    data: TrainingData,
) -> None:
    """The stage: texts that a language model writes.

    Args:
        result: folder to fill.
        run: where it works, with whom, and who is told.
        settings: the model, its training and how texts are drawn.
        max_length: longest text in tokens.
        precision: ``fp32`` or ``bf16``.
        data: only ``train`` is read.

    Raises:
        GenerateError: several processes, or a model that cannot write.
    """
    if run.processes.count > 1:
        # Trainer would wait for the others, who wait for this stage.
        raise GenerateError(
            f"{run.processes.count} processes cannot write texts together; run `optimize build` "
            "alone until it says 'generated: built', then launch them"
        )
    writer = Writer(settings, data.train, data.label_names, max_length, run.tell, precision)
    writer.learn(run.work)
    count = write_texts(result / TEXTS_NAME, writer.texts())
    run.tell(f"{count} texts")


class Writer:
    """A language model that writes texts of the classes of a task.

    Args:
        settings: the model, its training and how texts are drawn.
        train: the texts it learns from.
        label_names: what the classes are called; names that say something help it.
        max_length: longest text in tokens.
        tell: told the progress.
        precision: ``fp32`` or ``bf16``.

    Raises:
        GenerateError: the model has no end-of-text token.
    """

    def __init__(
        self,
        settings: GenerateSettings,
        train: Split,
        label_names: Sequence[str],
        max_length: int,
        tell: Tell,
        precision: str = "fp32",
    ) -> None:
        self._bf16 = precision == "bf16"
        self._settings, self._train, self._tell = settings, train, tell
        set_seed(settings.seed)
        self._tokenizer = load_tokenizer(str(settings.checkpoint), settings.revision)
        self._model = load_language_model(str(settings.checkpoint), settings.revision)
        prompts = self._tokenizer([f"{name.replace('_', ' ')}:" for name in label_names])
        texts = self._tokenizer(
            [f" {text}" for text in train.texts],
            add_special_tokens=False,
            truncation=True,
            max_length=max_length,
        )
        self._vocabulary = Vocabulary.of(
            [*prompts["input_ids"], *texts["input_ids"]], self._tokenizer
        )
        self._vocabulary.narrow(self._model)
        self._prompts = [self._vocabulary.numbers(row) for row in prompts["input_ids"]]
        end = [self._vocabulary.end]
        self._texts = [self._vocabulary.numbers(row) + end for row in texts["input_ids"]]

    def learn(self, work: Path | None) -> None:
        """Fine-tune on the training texts, each after the name of its class.

        Args:
            work: folder for what the Trainer writes.
        """
        settings = self._settings
        rows = []
        for label, text in zip(self._train.labels.tolist(), self._texts, strict=True):
            prompt = self._prompts[label]
            rows.append({"input_ids": prompt + text, "labels": [UNLABELLED] * len(prompt) + text})
        arguments = TrainingArguments(
            output_dir=str(work),
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            optim="adamw_torch_fused",
            bf16=self._bf16,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            seed=settings.seed,
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        self._model.config.use_cache = False
        trainer = _WriterTrainer(
            model=self._model,
            compute_loss_func=_text_loss,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            data_collator=_collate,
        )
        trainer.remove_callback(PrinterCallback)
        result = trainer.train()
        self._model.eval().to(torch.bfloat16 if self._bf16 else torch.float32)
        self._tell(f"loss {result.training_loss:.3f} nats a token in training")

    def texts(self) -> list[str]:
        """Distinct texts that are not among the training texts.

        Classes are drawn from as often as they occur in training.
        """
        train, settings = self._train, self._settings
        torch.manual_seed(settings.seed)
        known, made = set(train.texts), dict[str, None]()
        told = 0
        for label, share in sorted(Counter(train.labels.tolist()).items()):
            wanted = round(settings.texts * share / len(train))
            for start in range(0, wanted, DRAWN_TOGETHER):
                made.update(dict.fromkeys(self.drawn(label, min(DRAWN_TOGETHER, wanted - start))))
            if len(made) >= told + TELL_EVERY:
                told = len(made)
                self._tell(f"{told} texts")
        return [text for text in made if text not in known]

    def drawn(self, label: int, count: int) -> Iterator[str]:
        """Draw some texts of a class; those that do not end within the length limit are dropped."""
        end = self._vocabulary.end
        limit = int(np.quantile([len(text) for text in self._texts], LONGEST_SHARE))
        for row in draw(self._model, self._prompts[label], count, end, limit, self._settings):
            ids = self._vocabulary.kept[row[:-1]]
            text = " ".join(self._tokenizer.decode(ids, skip_special_tokens=True).split())
            if text and row[-1] == end:
                yield text


class _WriterTrainer(Trainer):
    """Batches of texts of like length, and a learning rate that rises and falls linearly.

    Trainer has arguments for both, whose names differ between transformers 4 and 5.
    """

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches by length, new every epoch."""
        rows: Any = self.train_dataset
        lengths = np.array([len(ids) for ids in rows["input_ids"]])
        size, seed = self.args.per_device_train_batch_size, self.args.seed
        batches = LengthBatches(lengths, size, seed)
        return LengthLoader(rows, batch_sampler=batches, collate_fn=self.data_collator)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """The schedule."""
        if self.lr_scheduler is None:
            chosen = self.create_optimizer() if optimizer is None else optimizer
            self.lr_scheduler = linear_schedule(chosen, num_training_steps, WARMUP_RATIO)
        return self.lr_scheduler


def _text_loss(outputs: Any, labels: Tensor, **_: Any) -> Tensor:
    """Next-token cross-entropy, a mean over the tokens of the texts, in nats.

    Not the model's own: that goes by the vocabulary that it began with.
    """
    logits = outputs.logits[:, :-1].float()
    return functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=UNLABELLED
    )


def _collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    ids = [np.array(row["input_ids"], dtype=np.int64) for row in rows]
    labels = [np.array(row["labels"], dtype=np.int64) for row in rows]
    return {
        "input_ids": torch.from_numpy(padded(ids)),
        "attention_mask": torch.from_numpy(padded([np.ones_like(row) for row in ids])),
        "labels": torch.from_numpy(padded(labels, UNLABELLED)),
    }
