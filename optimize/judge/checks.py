"""What no run could decide, refused before anything is measured."""

from __future__ import annotations

import warnings

from optimize.judge.kit import Kit, KitError
from optimize.judge.statistics.accuracy import distinct_rows
from optimize.judge.statistics.proportions import Z_95, examples_without_disagreement
from optimize.machine import isa_class
from optimize.settings.gates import BASELINE, AccuracyGate
from optimize.settings.recipe import Settings

# Above this share of repeated texts a run warns; a gate counts each text once whatever the share.
WARN_SHARE = 0.05


class RepeatedTextsWarning(UserWarning):
    """Texts of the judged split are there more than once."""


def check_kit(kit: Kit, settings: Settings) -> None:
    """Refuse a kit that cannot decide a gate: :func:`check_variants`, then :func:`check_texts`.

    Raises:
        KitError: it lacks a variant, or has too few texts for a margin.
    """
    check_variants(kit, settings)
    check_texts(kit, settings)


def check_variants(kit: Kit, settings: Settings) -> None:
    """Refuse a gate on a variant that the kit has never had, before minutes are measured in vain.

    Raises:
        KitError: names the gate, the variant, and those that there are.
    """
    for name, gate in settings.active_gates.items():
        for variant in gate.variants:
            if variant != BASELINE and variant not in kit.variants:
                raise KitError(
                    f"gates.{name} is on the variant {variant!r}, and the kit {kit.folder} holds "
                    f"{', '.join(kit.variants)}. Build a kit with these settings, or let them do "
                    f"without: judge.drop_gates = [{name!r}]"
                )


def check_texts(kit: Kit, settings: Settings) -> None:
    """Refuse a split whose texts are too few for a margin, even if no answer were to differ.

    Raises:
        KitError: a gate on accuracy needs more distinct texts than there are.

    Warns:
        RepeatedTextsWarning: more than 5 % of the texts repeat another.
    """
    split = settings.judge.split
    examples = kit.examples(split)
    total, distinct = len(examples.texts), len(distinct_rows(examples.texts, examples.labels))
    if faults := too_few(distinct, settings):
        raise KitError(faults[0])
    if total - distinct > WARN_SHARE * total:
        warnings.warn(
            f"{total - distinct} of {total} texts of the split {split!r} repeat another; gates on "
            f"accuracy count each once: n = {distinct}",
            RepeatedTextsWarning,
            stacklevel=2,
        )


def too_few(distinct: int, settings: Settings) -> list[str]:
    """What no answers could decide on so many different texts, a sentence a gate."""
    faults = []
    for name, gate in settings.active_gates.items():
        # The margin against a baseline is a default, and may be left undecided.
        if not isinstance(gate, AccuracyGate) or gate.reference == BASELINE:
            continue
        margin = gate.limit(None, isa_class())
        needed = examples_without_disagreement(margin / 100, Z_95)
        if distinct < needed:
            faults.append(
                f"gates.{name}: a margin of {margin:g} pp needs {needed} different texts even if "
                f"no answer differs, and the split {settings.judge.split!r} has {distinct}; add "
                f"texts, ask for a wider margin (gates.{name}.max_drop_pp), or let the gate be: "
                f'judge.drop_gates = ["{name}"]'
            )
    return faults
