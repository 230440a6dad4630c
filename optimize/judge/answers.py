"""What every variant of a kit answers to its texts, asked of its worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from optimize.judge.kit import Examples, Kit, Variant
from optimize.judge.records import Predictions
from optimize.judge.statistics.accuracy import differing
from optimize.judge.workers.process import WorkerError, WorkerProcess
from optimize.judge.workers.timing import CONTROL, Workers
from optimize.workspace import Progress, Tell

EVALUATION_BATCH = 32
# A request has a deadline: so many texts at most, and fewer where they take longer than this.
AT_ONCE = 2048
SHORT_S, LONG_S = 10.0, 60.0
Answer = int | Sequence[int]
Named = Callable[[Sequence[Answer]], tuple[int, ...]]


def predict(
    worker: WorkerProcess, texts: Sequence[str], batch_size: int, named: Named | None = None
) -> Predictions:
    """Ask a worker for its answers.

    Args:
        worker: holds a variant.
        texts: to be answered.
        batch_size: of a call.
        named: makes ids of what it answers: class ids, or lists of them; by default they are.

    Raises:
        WorkerError: a probability is not finite.
    """
    given: list[Answer] = []
    confidences: list[float] = []
    done, size = 0, EVALUATION_BATCH
    while done < len(texts):
        started = time.monotonic()
        part = list(texts[done : done + size])
        answer = worker.ask("predict", texts=part, batch_size=batch_size)
        done += len(part)
        lasted = time.monotonic() - started
        if lasted < SHORT_S:
            size = min(2 * size, AT_ONCE)
        elif lasted > LONG_S:
            size = max(size // 2, EVALUATION_BATCH)  # whole batches still
        if not answer["finite"]:
            raise WorkerError(
                f"worker {worker.spec.name} answered a probability that is not finite; the model "
                "is broken, build it again"
            )
        given += answer["labels"]
        confidences += answer["confidences"]
    labels = tuple(given) if named is None else named(given)
    return Predictions(labels=labels, confidences=tuple(confidences))


class Answers:
    """Answers of the variants of one run.

    Args:
        kit: has the labels.
        variants: those that are asked, by name.
        examples: the texts, by split.
        split: the one that is judged.
        tell: told the progress.

    Attributes:
        predictions: by split, then by variant.
        batch_changes: rows of the judged split whose answer changes in batches, by INT8 variant.
        about: what each worker says of itself.
    """

    def __init__(
        self,
        kit: Kit,
        variants: Mapping[str, Variant],
        examples: Mapping[str, Examples],
        split: str,
        tell: Tell,
    ) -> None:
        self._kit, self._variants, self._examples = kit, variants, examples
        self._split, self._tell = split, tell
        self.predictions: dict[str, dict[str, Predictions]] = {}
        self.batch_changes: dict[str, tuple[int, ...]] = {}
        self.about: dict[str, Mapping[str, object]] = {}

    def ask(self, workers: Workers) -> None:
        """Answers to both splits: fp32 in batches, INT8 as it is served, one by one.

        Under dynamic INT8 a batch shares its activation scales, so the
        two differ; by how much is reported as the batch agreement.
        """
        asked = [(name, worker) for name, worker in workers.items() if name != CONTROL]
        for place, (name, worker) in enumerate(asked):
            self.about[name] = worker.about
            self._tell(Progress(f"accuracy: {name}", place / len(asked)))
            int8 = self._variants[name].manifest.quantization is not None
            named = self._named(name)
            for split, examples in self._examples.items():
                size = 1 if int8 else EVALUATION_BATCH
                answers = predict(worker, examples.texts, size, named)
                self.predictions.setdefault(split, {})[name] = answers
                if int8 and split == self._split:
                    batched = predict(worker, examples.texts, EVALUATION_BATCH, named)
                    self.batch_changes[name] = differing(answers, batched)
        self._tell(Progress("accuracy: done", 1.0, passing=True))

    def _named(self, variant: str) -> Named:
        """What makes ids of a variant's answers: a model made elsewhere has an order of its own."""
        theirs, ours = self._variants[variant].manifest.labels, self._kit.manifest.labels
        places = [ours.index(label) for label in theirs]

        def ids(answers: Sequence[Answer]) -> tuple[int, ...]:
            return self._kit.label_sets.ids(
                places[each] if isinstance(each, int) else [places[label] for label in each]
                for each in answers
            )

        return ids
