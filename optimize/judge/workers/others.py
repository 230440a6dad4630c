"""Models of other kinds than a bundle, as a worker holds them: word counts, one's own code."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optimize.bundle.classifier import Logits, probabilities, softmax
from optimize.bundle.folder import BundleError, check_files, read_manifest
from optimize.bundle.texts import checked_texts, parted

WEIGHTS_NAME, WORDS_NAME = "linear.npz", "words.json"
LEAST_PROBABILITY, LEAST_MARGIN = 1e-12, 1e-6
WANTED = (
    "wanted are a label of the data for each text, or (label, probability), or a row of scores, a "
    "column a label"
)


class LinearClassifier:
    """The arrays that :mod:`optimize.distill.linear` stored, behind scikit-learn's vectorizer."""

    def __init__(self, folder: Path) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._manifest = manifest = read_manifest(folder)
        check_files(folder, manifest)
        own = manifest.recipe["linear"]
        words = json.loads((folder / WORDS_NAME).read_text(encoding="utf-8"))
        with np.load(folder / WEIGHTS_NAME, allow_pickle=False) as stored:
            self._weights, self._bias = stored["weights"], stored["bias"]
            self._vectorizer = TfidfVectorizer(
                sublinear_tf=own["sublinear_tf"],
                ngram_range=tuple(own["ngram_range"]),
                vocabulary={word: place for place, word in enumerate(words)},
            )
            self._vectorizer.idf_ = stored["idf"]

    def predict_proba(self, texts: Sequence[str], *, batch_size: int) -> Logits:
        """Probabilities of shape (texts, labels)."""
        rows = [
            probabilities(self._scores(texts[start : start + batch_size]), self._manifest)
            for start in range(0, len(texts), batch_size)
        ]
        return np.concatenate(rows)

    def _scores(self, texts: Sequence[str]) -> Logits:
        features = self._vectorizer.transform(texts)
        return np.asarray(features @ self._weights.T + self._bias, dtype=np.float32)


class PythonClassifier:
    """A function of one's own: texts in, answers out.

    Raises:
        BundleError: the factory cannot be found, or fails.
    """

    def __init__(self, folder: Path) -> None:
        self._manifest = read_manifest(folder)
        check_files(folder, self._manifest)
        self._name = str(self._manifest.recipe["python"])
        self._position = {label: place for place, label in enumerate(self._manifest.labels)}
        module, _, factory = self._name.partition(":")
        sys.dont_write_bytecode = True  # a later check would find it in the folder
        sys.path.insert(0, str(folder.resolve()))
        try:
            make = getattr(importlib.import_module(module), factory)
            self._answer: Callable[[list[Any]], Any] = make(folder.resolve())
        except Exception as error:
            raise BundleError(
                f"{self._name} cannot be made: {type(error).__name__}: {error}"
            ) from error

    def predict_proba(self, texts: Sequence[str], *, batch_size: int) -> Logits:
        """Probabilities of shape (texts, labels)."""
        checked = checked_texts(texts, pairs=self._manifest.text_pair)
        rows = [
            self._rows(checked[start : start + batch_size])
            for start in range(0, len(checked), batch_size)
        ]
        return np.concatenate(rows)

    def _rows(self, texts: list[str]) -> Logits:
        pairs = self._manifest.text_pair
        answers = self._answer([parted(text) for text in texts] if pairs else texts)
        scores = _scores(answers)
        if scores is not None:
            return self._of_scores(scores, len(texts))
        if isinstance(answers, str | bytes) or not isinstance(answers, Iterable):
            raise self._refused(
                f"it answered {answers!r:.80} ({type(answers).__name__}) to {len(texts)} texts; "
                f"{WANTED}"
            )
        answers = list(answers)
        if len(answers) != len(texts):
            raise self._refused(f"it gave {len(answers)} answers to {len(texts)} texts")
        of_answer = self._of_labels if self._manifest.multi_label else self._of_answer
        return np.stack([of_answer(answer) for answer in answers])

    def _of_scores(self, scores: Any, texts: int) -> Logits:
        """Scores are probabilities where none is below 0 and each row sums to 1, else logits.

        Where a text may have several labels, they must be probabilities: what logits of one batch
        look like is no way to tell.
        """
        if scores.shape != (texts, len(self._position)):
            raise self._refused(
                f"it gave scores of shape {scores.shape}, and {(texts, len(self._position))} were "
                "asked for: a row a text, a column a label in the order of the data's names"
            )
        scores = np.asarray(scores, dtype=np.float32)
        if not np.isfinite(scores).all():
            raise self._refused("it gave scores that are no finite numbers (NaN or infinity)")
        if self._manifest.multi_label:
            if not ((scores >= 0).all() and (scores <= 1).all()):
                raise self._refused(
                    f"it gave the scores {scores.min():g} to {scores.max():g}; where a text may "
                    "have several labels, give probabilities from 0 to 1"
                )
            return np.asarray(scores, dtype=np.float32)
        sums = scores.sum(axis=1, keepdims=True)
        if (scores >= 0).all() and np.allclose(sums, 1, atol=1e-3):
            rounded: Logits = scores / sums
            return rounded.clip(max=1.0)
        return softmax(scores)

    def _of_labels(self, answer: Any) -> Logits:
        """Where a text may have several labels: those that were answered, all for sure."""
        several = isinstance(answer, list | tuple | set | frozenset | np.ndarray)
        if not several or not all(
            isinstance(label, str) and label in self._position for label in answer
        ):
            raise self._refused(
                f"it answered {answer!r:.80}, and a list of the data's labels was asked for ("
                f"{', '.join(sorted(self._position)[:5])}, …)"
            )
        row = np.zeros(len(self._position), dtype=np.float32)
        row[[self._position[label] for label in answer]] = 1.0
        return row

    def _of_answer(self, answer: Any) -> Logits:
        label, probability = self._parted(answer)
        if label not in self._position:
            raise self._refused(
                f"it answered the label {label!r}, which the data has not ("
                f"{', '.join(sorted(self._position)[:5])}, …)"
            )
        if not 0 <= probability <= 1:
            raise self._refused(f"it answered the probability {probability}")
        # The label that was answered stays the best, however unsure it is.
        count = len(self._position)
        sure = max(float(probability), 1 / count + LEAST_MARGIN)
        row = np.full(count, max(LEAST_PROBABILITY, (1 - sure) / (count - 1)), dtype=np.float32)
        row[self._position[label]] = sure
        return row

    def _parted(self, answer: Any) -> tuple[str, float]:
        """A label and its probability, as several libraries give them."""
        if isinstance(answer, Mapping):  # as transformers' pipeline does
            answer = (answer.get("label"), answer.get("score"))
        if isinstance(answer, str):
            return str(answer), 1.0
        if isinstance(answer, list | tuple) and len(answer) == 2:
            label, probability = answer
            if isinstance(label, str) and isinstance(probability, float | int | np.floating):
                return str(label), float(probability)
        raise self._refused(f"it answered {answer!r:.80} to a text; {WANTED}")

    def _refused(self, why: str) -> BundleError:
        return BundleError(f"{self._name}: {why}")


def _scores(answers: Any) -> Any:
    """Answers that are rows of numbers, as an array, tensor or lists, of shape (texts, columns)."""
    if hasattr(answers, "detach"):  # a tensor of torch, which is not imported for this
        answers = answers.detach().cpu().numpy()
    if isinstance(answers, np.ndarray):
        return answers if answers.dtype.kind == "f" else None
    if not isinstance(answers, list | tuple) or not all(map(_is_row, answers)):
        return None
    try:
        return np.asarray(answers, dtype=np.float64) if answers else None
    except ValueError:  # of unequal lengths
        return None


def _is_row(answer: Any) -> bool:
    if isinstance(answer, np.ndarray):
        return answer.ndim == 1 and answer.dtype.kind == "f"
    return (
        isinstance(answer, list | tuple)
        and len(answer) > 0
        and all(isinstance(value, float | np.floating) for value in answer)
    )
