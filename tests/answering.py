"""A canned report whose two variants answer some texts, and a text that would act."""

from optimize.judge.records import Predictions

ACTING = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\x1b]0;x\x07{{ 7 * 7 }}'


def answering(found, texts, labels=("cancel", "refund")):
    size = len(texts)
    truth = tuple(row % 2 for row in range(size))
    wrong = (1 - truth[0], *truth[1:])
    sure = tuple(0.5 + 0.4 * (row % 2) for row in range(size))
    gate = found.gates[0].model_copy(
        update={
            "gate": "accuracy", "kind": "accuracy", "reference": "teacher-torch",
            "candidate": "student-int8", "workload": None,
        }
    )  # fmt: skip
    answers = {
        "teacher-torch": Predictions(labels=truth, confidences=sure),
        "student-int8": Predictions(labels=wrong, confidences=sure),
    }
    change = {
        "texts": tuple(texts), "labels": truth, "label_names": labels,
        "predictions": {found.split: answers}, "gates": (gate, *found.gates),
    }  # fmt: skip
    return found.model_copy(update=change)
