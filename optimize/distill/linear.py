"""A linear model on word counts: what a transformer is worth, in the same table.

TF-IDF of words and pairs of words, and a logistic regression on it (scikit-learn). What it learned
is stored as arrays and names, since a pickle could run code where it is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.classifier import sigmoid
from optimize.bundle.manifest import MANIFEST_NAME, Manifest, write_json
from optimize.data.splits import TrainingData
from optimize.models.folder import entries, library_versions
from optimize.training.evaluation import score_of
from optimize.training.thresholds import fitted_thresholds
from optimize.workspace import Workspace

WEIGHTS_NAME, WORDS_NAME = "linear.npz", "words.json"
# Of the vectorizer: single words, and pairs that two texts have.
SUBLINEAR, NGRAMS, LEAST_TEXTS = True, (1, 2), 2
# Inverse strengths of the penalty, the best of which on validation is kept.
STRENGTHS = (1.0, 10.0, 100.0)
ROUNDS = 300
SURE = 20.0  # a logit of all but 1
Ids = NDArray[np.int64]
# Weights of shape (labels, words), and a bias a label.
Linear = tuple[NDArray[np.float32], NDArray[np.float32]]


def build_linear(result: Path, run: Workspace, *, data: TrainingData) -> None:
    """The stage: a linear model of the training texts.

    Args:
        result: folder to fill.
        run: is told which penalty was best.
        data: train is learned from; the strength of the penalty is chosen on validation.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=SUBLINEAR, ngram_range=NGRAMS, min_df=LEAST_TEXTS)
    try:
        features = vectorizer.fit_transform(data.train.texts)
    except ValueError:  # no word is in two texts
        vectorizer.set_params(min_df=1)
        features = vectorizer.fit_transform(data.train.texts)
    seen = vectorizer.transform(data.validation.texts)
    fit = _several if data.multi_label else _one
    fitted = [
        fit(features, data.train.labels, len(data.label_names), strength) for strength in STRENGTHS
    ]
    found = [
        score_of(np.asarray(seen @ weights.T + bias), data.validation.labels)
        for weights, bias in fitted
    ]
    scores = [score for each in found for score in each.values()]
    best = int(np.argmax(scores))
    weights, bias = fitted[best]
    name = next(iter(found[best])).replace("_", " ")
    run.tell(f"C = {STRENGTHS[best]:g}: {100 * scores[best]:.2f} % validation {name}")
    np.savez(result / WEIGHTS_NAME, weights=weights, bias=bias, idf=vectorizer.idf_)
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    (result / WORDS_NAME).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    thresholds = None
    if data.multi_label:
        rows = sigmoid(np.asarray(seen @ weights.T + bias, dtype=np.float32))
        thresholds = fitted_thresholds(rows, data.validation.labels)
    own = {"sublinear_tf": SUBLINEAR, "ngram_range": list(NGRAMS), "C": STRENGTHS[best]}
    manifest = Manifest(
        format="linear",
        labels=data.label_names,
        max_length=2**31,
        parameters=weights.size,
        problem_type=data.problem_type,
        text_pair=data.pairs,
        thresholds=thresholds,
        files=entries(result),
        inputs={"data": data.key_part},
        libraries=library_versions(["scikit-learn", "numpy"]),
        recipe={"linear": own},
    )
    write_json(manifest, result / MANIFEST_NAME)


def _one(features: Any, labels: Ids, count: int, strength: float) -> Linear:
    """Weights for one label a text; a label that no training text has is never answered."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=ROUNDS).fit(features, labels)
    weights = np.zeros((count, features.shape[1]), dtype=np.float32)
    bias = np.full(count, -np.inf, dtype=np.float32)
    # Of two classes the regression keeps one row, that of the second.
    rows, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        rows, intercepts = np.vstack([-rows / 2, rows / 2]), np.array([-1, 1]) * intercepts / 2
    weights[model.classes_], bias[model.classes_] = rows, intercepts
    return weights, bias


def _several(features: Any, labels: Ids, count: int, strength: float) -> Linear:
    """A regression a label; one that all texts have, or none has, is always or never given."""
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros((count, features.shape[1]), dtype=np.float32)
    bias = np.where(labels[0] == 1, SURE, -SURE).astype(np.float32)
    for label in range(count):
        has = labels[:, label]
        if has.min() < has.max():
            model = LogisticRegression(C=strength, max_iter=ROUNDS).fit(features, has)
            weights[label], bias[label] = model.coef_[0], model.intercept_[0]
    return weights, bias
