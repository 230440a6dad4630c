"""What a model that was built elsewhere answers: logits, and the same alone and in a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from optimize.bundle.classifier import Classifier

# Operators whose output is no logit.
PROBABILITIES = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
TRIED_TEXT = "is this a text?"


class AdoptError(ValueError):
    """A model that cannot be taken over; the message gives the fact, the values and the remedy."""


def refuse_probabilities(model: Path) -> None:
    """Refuse a graph that ends in probabilities: they would be turned into such again.

    Raises:
        AdoptError: it does.
    """
    import onnx  # not where a kit is only judged

    graph = onnx.load(model, load_external_data=False).graph
    made_by = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        node = made_by.get(output.name)
        while node is not None and node.op_type in ("Identity", "Cast"):
            node = made_by.get(node.input[0])
        if node is not None and node.op_type in PROBABILITIES:
            raise AdoptError(
                f"{model} ends in {node.op_type}, which makes probabilities; logits are needed, of "
                "which probabilities are made here. Export it without that node"
            )


def check_answers(folder: Path, classifier: Classifier) -> None:
    """Refuse a model that answers otherwise beside a longer text, where the shorter is padded.

    INT8 answers differ a little there, since all texts of a batch have one scale.
    """
    pairs = classifier.manifest.text_pair
    inputs = [(text, text) if pairs else text for text in (TRIED_TEXT, f"{TRIED_TEXT} " * 3)]
    alone = np.concatenate([classifier.logits([each]) for each in inputs])
    gap = float(np.abs(alone - classifier.logits(inputs)).max())
    spread = float(np.ptp(alone)) + float(np.ptp(alone, axis=0).max())
    most = 0.5 if classifier.manifest.quantization else 0.01
    if not gap <= 1e-4 + most * spread:
        raise AdoptError(
            f"{folder} answers otherwise in a batch than alone (logits differ by {gap:.2g}): texts "
            "are padded on the right and masked here, and it reads what is padded, as families "
            "that pad on the left or read the last token do. Take an encoder"
        )
