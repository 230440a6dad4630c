"""A stored report as the baseline of a run: whether it is comparable, and in this run's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from optimize.judge.gates.evidence import Evidence, Stored
from optimize.judge.kit import Examples, Kit, KitError
from optimize.judge.records import (
    BaselineFacts,
    Fingerprint,
    Mode,
    Predictions,
    Report,
    VariantFacts,
)
from optimize.judge.statistics.accuracy import label_changes
from optimize.settings.gates import BASELINE
from optimize.settings.recipe import Settings

# Of a workload, and of a variant made elsewhere.
TIMED = {"batch_size", "quantiles", "texts", "max_length"}


@dataclass(frozen=True)
class HeldAgainst:
    """The baseline of a run.

    Attributes:
        source: what it is, for the report.
        report: a stored report; without one, the kit holds the variant ``baseline``.
    """

    source: str
    report: Report | None = None

    def stored(self, fingerprint: Fingerprint, mode: Mode, settings: Settings) -> Stored | None:
        """The stored report, and what is not as in this run; ``None`` where there is none."""
        if self.report is None:
            return None
        unlike = fingerprint.differences(self.report.fingerprint)
        if self.report.mode != mode:
            unlike.append(f"mode: {self.report.mode} → {mode}")
        unlike += _unlike_settings(self.report.settings, settings.model_dump(mode="json"))
        return Stored(self.report, tuple(unlike))

    def facts(
        self, candidate: str, examples: Examples, evidence: Evidence, kit: Kit
    ) -> BaselineFacts:
        """The baseline for a report, with the texts whose label changed.

        Args:
            candidate: the variant that is held against it.
            examples: of the judged split.
            evidence: of this run.
            kit: has the names of the labels.
        """
        before = evidence.predictions.get(BASELINE)
        after = evidence.predictions.get(candidate)
        names = kit.label_sets.names
        texts = evidence.comparable(BASELINE, candidate)
        return BaselineFacts(
            source=self.source,
            kind="bundle" if self.report is None else "report",
            model_sha256=evidence.variants[BASELINE].model_sha256,
            unlike=evidence.stored.unlike if evidence.stored else (),
            lacks=() if self.report else kit.lacks(BASELINE),
            shared=len(texts) if evidence.shared is not None else None,
            changes=label_changes(before, after, examples, names, texts)
            if before and after
            else (),
        )


def _unlike_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    """Settings that change what is timed under a name that stays."""
    # The chain's own variants have one length, the teacher's.
    lengths = [each.get("teacher", {}).get("max_length") for each in (theirs, ours)]
    if None not in lengths and lengths[0] != lengths[1]:
        yield f"teacher.max_length: {lengths[0]} → {lengths[1]}"
    for table, places in {
        "judge.workloads": (theirs["judge"].get("workloads"), ours["judge"]["workloads"]),
        "variants": (theirs.get("variants"), ours["variants"]),
    }.items():
        before, now = ({} if place is None else place for place in places)
        for name in before.keys() & now.keys():
            for key in sorted(before[name].keys() & now[name].keys() & TIMED):
                if before[name][key] != now[name][key]:
                    yield f"{table}.{name}.{key}: {before[name][key]} → {now[name][key]}"


def stored_facts(report: Report, candidate: str, kit: Kit, split: str) -> VariantFacts:
    """The stored candidate, not measurable where it was not judged on these very texts.

    Args:
        report: the stored one.
        candidate: the variant that is held against it.
        kit: of this run.
        split: that is judged.

    Raises:
        KitError: the report has no such variant.
    """
    facts = report.variants.get(candidate)
    if facts is None:
        raise KitError(
            f"the baseline's report has no variant {candidate!r} (it has "
            f"{', '.join(report.variants)}); set regression.candidate"
        )
    ours = (split, kit.manifest.inputs.get("data", ""))
    theirs = (report.split, report.data_digest)
    answers = report.predictions.get(split, {}).get(candidate)
    if ours != theirs or answers is None:
        why = f"its report judged other texts ({theirs[0]} of data {theirs[1][:10]}, here {ours[0]}"
        return facts.model_copy(update={"missing": f"{why} of {ours[1][:10]})"})
    said = set(chain.from_iterable(_names(answers, report)))
    if unknown := sorted(said - set(kit.manifest.labels)):
        why = f"its report knows the label {unknown[0]!r}, which the kit has not"
        return facts.model_copy(update={"missing": why})
    return facts


def as_here(answers: Predictions, report: Report, kit: Kit) -> Predictions:
    """A stored report's answers with this run's ids: a run numbers sets as it meets them."""
    if not report.label_names:
        return answers
    return answers.model_copy(update={"labels": kit.label_sets.of_names(_names(answers, report))})


def _names(answers: Predictions, report: Report) -> list[list[str]]:
    """The labels of each answer by name; none where an older report has no names."""
    if report.label_sets is not None:
        names, sets = report.class_names, report.label_sets
        return [[names[label] for label in sets[each]] for each in answers.labels]
    return [[report.label_names[each]] for each in answers.labels if report.label_names]
