"""What a data set is made of, in lines for a person: sizes by class, and what may not be meant."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from optimize.bundle.texts import shown
from optimize.data.splits import SPLITS, Splits
from optimize.data.texts import normalised

FEW = 5
NO_LABEL = "(none)"
MOST_SHOWN = 20
Lengths = Callable[[Sequence[str]], Sequence[int]]


def summary(
    splits: Splits, max_length: int | None = None, lengths: Lengths | None = None
) -> list[str]:
    """Lines on sizes, duplicates, texts with two labels, small classes and texts that are cut.

    Args:
        splits: checked data.
        max_length: in tokens, beyond which a text is cut.
        lengths: gives the tokens of texts; without it nothing is said of cut texts.
    """
    lines = [*_sizes(splits), *_repeated(splits), *_small(splits)]
    if lengths is not None and max_length is not None:
        lines += _cut(splits, max_length, lengths)
    return lines


def _sizes(splits: Splits) -> list[str]:
    counts = {name: _counts(splits, name) for name in SPLITS}
    order = sorted(splits.label_names, key=lambda label: -counts["train"][label])
    if any(counts[name][NO_LABEL] for name in SPLITS):
        order.append(NO_LABEL)
    width = max(5, *(len(label) for label in order[:MOST_SHOWN]))
    lines = [f"  {'label':{width}}" + "".join(f"{name:>12}" for name in SPLITS)]
    for label in order[:MOST_SHOWN]:
        cells = "".join(f"{counts[name][label]:12,}" for name in SPLITS)
        lines.append(f"  {label:{width}}{cells}")
    if left := order[MOST_SHOWN:]:
        cells = "".join(f"{sum(counts[n][label] for label in left):12,}" for n in SPLITS)
        lines.append(f"  {f'{len(left)} more':{width}}{cells}")
    return lines


def _counts(splits: Splits, name: str) -> Counter[str]:
    """Texts of each label, and of none."""
    return Counter(label for names in splits.names_of(name) for label in names or (NO_LABEL,))


def _repeated(splits: Splits) -> list[str]:
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for name in SPLITS:
        for text, names in zip(splits[name].texts, splits.names_of(name), strict=True):
            labels[normalised(text)][" + ".join(names) or NO_LABEL] += 1
    lines = []
    surplus = sum(found.total() - 1 for found in labels.values())
    if surplus:
        lines.append(f"  {surplus:,} texts repeat another one, case and white space aside")
    torn = {text: found for text, found in labels.items() if len(found) > 1}
    if torn:
        what = "sets of labels" if splits.training.multi_label else "labels"
        text, found = next(iter(torn.items()))
        counts = ", ".join(f"{name!r} {count} times" for name, count in found.most_common())
        lines.append(
            f"  warning: {len(torn):,} texts have several {what}, which nothing can learn; the "
            f"first: {shown(text)!r} is {counts}"
        )
    return lines


def _small(splits: Splits) -> list[str]:
    counts = _counts(splits, "train")
    small = [f"{name!r} {counts[name]}" for name in splits.label_names if counts[name] < FEW]
    if not small:
        return []
    more = f" and {len(small) - FEW} more" if len(small) > FEW else ""
    return [
        f"  warning: classes of fewer than {FEW} training texts: {', '.join(small[:FEW])}{more}"
    ]


def _cut(splits: Splits, max_length: int, lengths: Lengths) -> list[str]:
    lines = []
    for name in SPLITS:
        found = lengths(splits[name].texts)
        cut = sum(length > max_length for length in found)
        if cut:
            lines.append(
                f"  {cut:,} of {len(found):,} {name} texts ({cut / len(found):.1%}) are longer "
                f"than max_length = {max_length} tokens and will be cut; the longest has "
                f"{max(found):,}"
            )
    return lines
