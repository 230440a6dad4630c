"""Words that variations of the training texts may swap, by the teacher's own embeddings."""

from __future__ import annotations

import json
from pathlib import Path

from optimize.data.splits import TrainingData
from optimize.data.transfer_set import REPLACEMENTS_NAME
from optimize.models.checkpoint import load_classifier, load_tokenizer
from optimize.models.embeddings import word_replacements
from optimize.workspace import Workspace


def build_replacements(result: Path, run: Workspace, *, data: TrainingData, teacher: Path) -> None:
    """The stage: by word of the training texts, those that can stand in its place.

    Args:
        result: folder to fill.
        run: is told nothing.
        data: only the texts of ``train`` are read.
        teacher: folder of the model whose embeddings are compared.
    """
    model, tokenizer = load_classifier(str(teacher)), load_tokenizer(str(teacher))
    words = word_replacements(data.train.texts, model, tokenizer)
    content = json.dumps(words, ensure_ascii=False)
    (result / REPLACEMENTS_NAME).write_text(content, encoding="utf-8")
