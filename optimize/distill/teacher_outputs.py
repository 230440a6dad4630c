"""What the teacher says, stored: it runs once over the texts, or a file stands in for it."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from optimize.data.arrays import Rows
from optimize.data.folds import fold_rows
from optimize.data.input_file import InputFile
from optimize.data.splits import TrainingData
from optimize.data.transfer_set import TransferSet
from optimize.models.activations import Activations
from optimize.models.attention import attention_for
from optimize.models.checkpoint import load_classifier, load_tokenizer
from optimize.models.depth import mapped_layers, student_depth
from optimize.models.encoder import classification_head, layer_stack
from optimize.settings.training import StudentSettings
from optimize.training.batches import TOKENS_PER_BATCH, token_batches
from optimize.training.distributed import Processes
from optimize.training.run import Run
from optimize.training.soft_targets import (
    HIDDEN_NAME,
    OFFSETS_NAME,
    POOLED_NAME,
    RELATIONS_NAME,
    STORE_NAME,
    SoftTargets,
)
from optimize.training.tokens import Tokens, tokenise_once
from optimize.workspace import Progress, Tell

TELL_EVERY_S = 10.0


class LogitsError(ValueError):
    """Precomputed logits that do not fit the data; the message gives both values."""


@dataclass(frozen=True)
class Wanted:
    """Inner states that are stored too, since a loss asks for them.

    Attributes:
        hidden: layers whose output is stored, counted from 1.
        relations: the layer whose queries, keys and values are stored.
    """

    hidden: tuple[int, ...] = ()
    relations: int | None = None


def build_teacher_outputs(
    result: Path,
    run: Run,
    *,
    data: TrainingData,
    max_length: int,
    precision: str,
    student: StudentSettings | None,
    relation_layer: int | None,
    teacher: Path,
    transfer_set: Path,
    **folds: Path,
) -> None:
    """The stage: what the teacher says of the transfer set.

    Args:
        result: folder to fill.
        run: where it works, with whom, and who is told.
        data: where there are folds, ``train`` says which texts each has not seen.
        max_length: longest text in tokens.
        precision: ``fp32`` or ``bf16``.
        student: whose layers hidden states are stored for; ``None`` stores none.
        relation_layer: layer whose queries, keys and values are stored, 0 for the last; ``None``
            stores none.
        teacher: its folder.
        transfer_set: folder of the texts.
        **folds: folders of teachers that each left out a fold of the training texts; ``fold0``
            and so on.
    """
    scoring = _Scoring(run, max_length, precision, student, relation_layer, data.pairs)
    with run.profile.section("teacher's outputs"):
        scoring.score(teacher, TransferSet(transfer_set).texts(), result, run.work)
        for fold in range(len(folds)):
            rows = fold_rows(len(data.train), fold, len(folds))
            place = run.work / f"fold{fold}"
            place.mkdir(parents=True, exist_ok=True)
            texts = [data.train.texts[row] for row in rows]
            scoring.score(folds[f"fold{fold}"], texts, place, place)
            if run.processes.first:
                SoftTargets.read(result).logits[rows] = SoftTargets.read(place).logits[:]
                (place / STORE_NAME).unlink()
        run.processes.wait()


def build_imported_outputs(
    result: Path, run: Run, *, data: TrainingData, logits: InputFile, transfer_set: Path
) -> None:
    """The stage where a file stands in for the teacher.

    Args:
        result: folder to fill.
        run: with whom it works.
        data: its label names, in the order that columns get.
        logits: the file.
        transfer_set: folder of the texts, one a row.

    Raises:
        LogitsError: the file does not fit the data.
    """
    examples = len(TransferSet(transfer_set))
    run.processes.by_first(
        lambda: import_precomputed(
            logits.path, "train", examples, data.label_names, result / STORE_NAME
        )
    )


@dataclass(frozen=True)
class _Scoring:
    """How a teacher scores; as :func:`build_teacher_outputs` is asked."""

    run: Run
    max_length: int
    precision: str
    student: StudentSettings | None
    relation_layer: int | None
    pairs: bool

    def score(self, teacher: Path, texts: Iterable[str], result: Path, work: Path) -> None:
        """One teacher's outputs for some texts."""
        model, tokenizer = load_classifier(str(teacher)), load_tokenizer(str(teacher))
        processes = self.run.processes
        tokens = tokenise_once(
            texts, tokenizer, self.max_length, work / "tokens", processes, pairs=self.pairs
        )
        wanted = self._wanted(model)
        score(model, tokens, result, self.run.tell, wanted, processes, self.precision)

    def _wanted(self, teacher: PreTrainedModel) -> Wanted:
        hidden: tuple[int, ...] = ()
        relations: int | None = None
        if self.student is not None:
            depth = student_depth(self.student, teacher)
            hidden = mapped_layers(self.student, depth, len(layer_stack(teacher)[2]))
        if self.relation_layer is not None:
            relations = self.relation_layer or len(layer_stack(teacher)[2])
        return Wanted(hidden, relations)


def score(
    model: PreTrainedModel,
    tokens: Tokens,
    folder: Path,
    tell: Tell,
    wanted: Wanted = Wanted(),
    processes: Processes | None = None,
    precision: str = "fp32",
) -> None:
    """Write what the model says of every text, row by row in order.

    Args:
        model: the teacher.
        tokens: the texts, by its own tokenizer; the student's may differ, since rows are joined by
            index.
        folder: gets ``logits.npy``, float32 of shape (texts, labels); ``pooled.npy``, float32 of
            shape (texts, width); and what is wanted as ``hidden.npy`` and ``relations.npy``,
            float16 of shape (tokens of all texts, states · width), with ``offsets.npy``.
        tell: told the progress.
        wanted: further states.
        processes: several share the batches among them, and all get the same folder.
        precision: ``fp32``, or ``bf16`` for autocast.
    """
    processes = processes or Processes()
    activations = Activations(model, wanted.hidden, wanted.relations)
    if processes.first:
        _create(model, tokens, folder, wanted, activations)
    processes.wait()
    stores = SoftTargets.read(folder)
    batches = token_batches(tokens.lengths, TOKENS_PER_BATCH)[processes.rank :: processes.count]
    done, told, total = 0, time.monotonic(), sum(map(len, batches))
    model.eval()
    bf16 = precision == "bf16"
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for chosen in batches:
            batch = tokens.batch(chosen)
            with attention_for(batch["input_ids"].shape[1]):
                logits = model(**batch).logits
            stores.write(chosen, logits, activations, batch["attention_mask"])
            activations.clear()
            done += len(chosen)
            line = f"{done} of {total} texts"
            often = time.monotonic() > told + TELL_EVERY_S or done == total
            tell(Progress(line, done / total, passing=not often))
            if often:
                told = time.monotonic()
    activations.remove()
    processes.wait()


def _create(
    model: PreTrainedModel, tokens: Tokens, folder: Path, wanted: Wanted, noted: Activations
) -> None:
    """Empty stores; what is not wanted has none."""
    texts, all_tokens = len(tokens), int(tokens.lengths.sum())
    labels = classification_head(model).out_features
    Rows.create(folder / STORE_NAME, (texts, labels), np.float32)
    Rows.create(folder / POOLED_NAME, (texts, noted.pooled_width), np.float32)
    if wanted.hidden or wanted.relations is not None:
        np.save(folder / OFFSETS_NAME, np.concatenate([[0], tokens.lengths.cumsum()]))
    if wanted.hidden:
        shape = (all_tokens, len(wanted.hidden) * model.config.hidden_size)
        Rows.create(folder / HIDDEN_NAME, shape, np.float16)
    if wanted.relations is not None:
        Rows.create(folder / RELATIONS_NAME, (all_tokens, 3 * noted.relation_width), np.float16)


def import_precomputed(
    source: Path, split: str, examples: int, label_names: Sequence[str], store: Path
) -> None:
    """Copy one split of a precomputed ``.npz`` file into a store, columns in our label order.

    The file holds an array per split, rows in the order of the data, and ``labels``, the names
    of the columns.

    Raises:
        LogitsError: missing array, other labels, other number of rows, or NaN.
    """
    try:
        with np.load(source, allow_pickle=False) as arrays:
            names, logits = [str(name) for name in arrays["labels"]], arrays[split]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise LogitsError(
            f"{source} has no readable arrays 'labels' and {split!r}: {error}"
        ) from error
    if sorted(names) != sorted(label_names):
        raise LogitsError(
            f"{source} has logits for {len(names)} labels, the data has {len(label_names)}; they "
            "must be the same names"
        )
    if logits.shape != (examples, len(names)):
        raise LogitsError(
            f"{source} has {split!r} logits of shape {logits.shape}, the data needs "
            f"{(examples, len(names))}: rows must be the data's, in its order, "
            "without distill.augment, distill.transfer and generate.checkpoint, since nothing "
            "scores what they would add"
        )
    columns = [names.index(name) for name in label_names]
    ordered = np.ascontiguousarray(logits[:, columns], dtype=np.float32)
    if not np.isfinite(ordered).all():
        row = int(np.flatnonzero(~np.isfinite(ordered).all(axis=1))[0])
        raise LogitsError(f"{source}, {split!r}, row {row}: a logit is not finite")
    np.save(store, ordered)
