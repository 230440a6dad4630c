"""Charts of a report as inline SVG: no script, no library, colours by the page's style."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from optimize.escape import for_terminal

WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 172, 24, 12, 34
ROW = 30
# Of the page's text in a chart, about.
LINE, CHARACTER = 15.0, 6.6


# Kinds of a stack that have a colour of their own; the rest share the last.
COLOURS = 6


class Dots(NamedTuple):
    """One row of a strip plot: every block a dot, with the interval of their centre."""

    name: str
    values: Sequence[float]
    low: float
    high: float


class Bubble(NamedTuple):
    """A variant: where it lies, and how large it is."""

    name: str
    x: float
    y: float
    area: float


def strips(rows: Sequence[Dots], unit: str) -> str:
    """A row a variant, on one logarithmic axis."""
    values = [value for row in rows for value in row.values if value > 0]
    if not values:
        return ""
    axis = _LogAxis(min(values), max(values))
    height = TOP + ROW * len(rows) + BOTTOM
    parts = [*axis.lines(height, unit)]
    for number, row in enumerate(rows):
        middle = TOP + ROW * number + ROW / 2
        parts.append(_text(LEFT - 10, middle + 4, row.name, "end"))
        step = max(1, len(row.values) // 200)  # more dots than that are one blot
        for place, value in enumerate(row.values[::step]):
            jitter = (place * 7 % 11 - 5) * 1.3
            parts.append(_circle(axis.x(value), middle + jitter, 2.2, "dot"))
        parts.append(
            f'<line class="bar" x1="{axis.x(row.low):.1f}" x2="{axis.x(row.high):.1f}" '
            f'y1="{middle:.1f}" y2="{middle:.1f}"/>'
        )
    return _figure(height, parts, f"Times of every block, by variant, in {unit}")


def stacks(rows: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """A bar a variant, from zero, each a stack of the same kinds.

    Args:
        rows: by variant, then by kind.
        unit: of the values.
    """
    most = max((sum(row.values()) for row in rows.values()), default=0.0)
    if most <= 0:
        return ""
    total: Counter[str] = Counter()
    for row in rows.values():
        total.update(row)
    kinds = [kind for kind, _ in total.most_common()]
    legend = kinds if len(kinds) > 1 else []
    below = TOP + ROW * len(rows) + 8
    parts = []
    for number, (name, row) in enumerate(rows.items()):
        top, left = TOP + ROW * number, float(LEFT)
        parts.append(_text(LEFT - 10, top + 19, name, "end"))
        for kind in kinds:
            wide = (WIDTH - LEFT - RIGHT - 90) * row.get(kind, 0.0) / most
            if wide > 0:
                told = escape(for_terminal(f"{name}, {kind}: {row[kind]:.2f} {unit}"))
                parts.append(
                    f'<rect class="stack{min(kinds.index(kind), COLOURS - 1)}" x="{left:.1f}" '
                    f'y="{top + 5}" width="{wide:.1f}" height="20"><title>{told}</title></rect>'
                )
            left += wide
        parts.append(_text(left + 8, top + 19, f"{sum(row.values()):.1f} {unit}", "start"))
    for place, kind in enumerate(legend):
        top, left = below + 22 * (place // 3), LEFT + 180 * (place % 3)
        parts += [
            f'<rect class="stack{min(place, COLOURS - 1)}" x="{left}" y="{top}" width="12" '
            'height="12"/>',
            _text(left + 18, top + 11, kind, "start"),
        ]
    height = below + 22 * math.ceil(len(legend) / 3)
    return _figure(height, parts, f"Size by variant, in {unit}")


def bars(rows: Mapping[str, float], unit: str) -> str:
    """A bar a row, from zero.

    Args:
        rows: by name; none below zero.
        unit: of the values.
    """
    most = max(rows.values(), default=0.0)
    if most <= 0:
        return ""
    parts = []
    for number, (name, value) in enumerate(rows.items()):
        top, wide = TOP + ROW * number, (WIDTH - LEFT - RIGHT - 110) * value / most
        parts += [
            _text(LEFT - 10, top + 19, name, "end"),
            f'<rect class="stack0" x="{LEFT}" y="{top + 5}" width="{wide:.1f}" height="20"/>',
            _text(LEFT + wide + 8, top + 19, f"{value:.2g} {unit}", "start"),
        ]
    return _figure(TOP + ROW * len(rows) + 8, parts, f"One bar a row, in {unit}")


def bubbles(points: Sequence[Bubble], x_unit: str, y_unit: str) -> str:
    """Latency against accuracy; the area is the size. Up and to the left is better."""
    if len(points) < 2:
        return ""
    height = 330
    axis = _LogAxis(min(p.x for p in points) / 1.3, max(p.x for p in points) * 1.3)
    lowest, highest = min(p.y for p in points), max(p.y for p in points)
    room = max(0.5, highest - lowest) * 0.35
    low, high = lowest - room, highest + room

    def y(value: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [*axis.lines(height, x_unit)]
    for tick in _round_ticks(low, high):
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" '
            f'y2="{y(tick):.1f}"/>',
            _text(LEFT - 10, y(tick) + 4, f"{tick:g} {y_unit}", "end"),
        ]
    largest = max(p.area for p in points)
    circles = [
        _Circle(p.name, axis.x(p.x), y(p.y), 5 + 24 * math.sqrt(p.area / largest))
        # The largest first, so that a small one is not covered; names last, so that none is.
        for p in sorted(points, key=lambda p: -p.area)
    ]
    parts += [_circle(c.x, c.y, c.radius, "bubble") for c in circles]
    placed: list[_Box] = []
    parts += [_label(circle, circles, placed) for circle in reversed(circles)]
    return _figure(height, parts, f"{x_unit} against accuracy; the area is the size")


def diagonal(series: Mapping[str, Iterable[tuple[float, float, int]]]) -> str:
    """Confidence against the share that is right; on the diagonal, both are the same."""
    side, edge = 300, 44
    parts = [
        f'<line class="grid" x1="{edge}" y1="{side}" x2="{side}" y2="{edge}"/>',
        f'<rect class="frame" x="{edge}" y="{edge}" width="{side - edge}" height="{side - edge}"/>',
        _text((side + edge) / 2, side + 28, "confidence", "middle"),
        _text(edge, edge - 10, "share that is right", "start"),
    ]
    for place in (0.0, 0.5, 1.0):
        at = edge + (side - edge) * place
        parts += [
            _text(at, side + 14, f"{place:g}", "middle"),
            _text(edge - 6, side - (side - edge) * place + 4, f"{place:g}", "end"),
        ]
    for number, (name, bins) in enumerate(series.items()):
        points = []
        for confidence, right, texts in bins:
            x, y = edge + (side - edge) * confidence, side - (side - edge) * right
            points.append(f"{x:.1f},{y:.1f}")
            parts.append(_circle(x, y, 2 + min(5.0, math.sqrt(texts) / 4), f"series{number}"))
        parts += [
            f'<polyline class="line{number}" points="{" ".join(points)}"/>',
            _circle(side + 20, edge + 8 + 22 * number, 5, f"series{number}"),
            _text(side + 32, edge + 12 + 22 * number, name, "start"),
        ]
    return _figure(side + 40, parts, "Confidence against the share that is right", side + 200)


def sparkline(values: Sequence[float], limit: float) -> str:
    """A gate's figures from run to run, and its limit."""
    known = [value for value in (*values, limit) if math.isfinite(value)]
    low, high = min(known), max(known)
    wide, tall = 160, 36

    def y(value: float) -> float:
        return 4 + (tall - 8) * (0.5 if high == low else (high - value) / (high - low))

    step = (wide - 12) / max(1, len(values) - 1)
    points = " ".join(
        f"{6 + step * place:.1f},{y(value):.1f}" for place, value in enumerate(values)
    )
    parts = [
        f'<line class="limit" x1="0" x2="{wide}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>',
        f'<polyline class="line0" points="{points}"/>',
        _circle(6 + step * (len(values) - 1), y(values[-1]), 3, "series0"),
    ]
    return _figure(tall, parts, "Figures of earlier runs, and the limit", wide)


class _LogAxis:
    """A logarithmic axis along the bottom."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = math.log(low) - 0.05, math.log(high) + 0.05

    def x(self, value: float) -> float:
        share = (math.log(max(value, 1e-12)) - self._low) / (self._high - self._low)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, share))

    def lines(self, height: float, unit: str) -> Iterable[str]:
        for tick in self._ticks():
            x = self.x(tick)
            yield (
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
            )
            yield _text(x, height - BOTTOM + 18, f"{tick:g} {unit}", "middle")

    def _ticks(self) -> list[float]:
        first, last = math.floor(self._low / math.log(10)), math.ceil(self._high / math.log(10))
        every = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
        inside = [tick for tick in every if self._low <= math.log(tick) <= self._high]
        if len(inside) < 2:  # a short axis lies between two of them
            return _round_ticks(math.exp(self._low), math.exp(self._high))
        # So many fit beside each other on a phone.
        return inside if len(inside) <= 7 else [t for t in inside if _leading(t) == 1]


class _Circle(NamedTuple):
    """A bubble as it is drawn."""

    name: str
    x: float
    y: float
    radius: float


class _Box(NamedTuple):
    """Where a label lies."""

    left: float
    right: float
    middle: float

    def overlaps(self, other: _Box) -> bool:
        apart = self.right < other.left or other.right < self.left
        return not apart and abs(self.middle - other.middle) < LINE

    def meets(self, circle: _Circle) -> bool:
        nearest = min(max(circle.x, self.left), self.right)
        # A text stands on its line: most of it is above.
        across = self.middle - LINE / 3 - circle.y
        return math.hypot(nearest - circle.x, across) < circle.radius + LINE / 3


def _label(circle: _Circle, circles: Sequence[_Circle], placed: list[_Box]) -> str:
    """A name beside its bubble, clear of other names and, where there is such a place, bubbles."""
    free = [box for box in _places(circle) if not any(map(box.overlaps, placed))]
    clear = [box for box in free if not any(map(box.meets, circles))]
    below = circle.y + circle.radius + LINE
    half = CHARACTER * len(circle.name) / 2
    box = (clear or free or [_Box(circle.x - half, circle.x + half, below)])[0]
    placed.append(box)
    return _text(box.left, box.middle, circle.name, "start")


def _places(circle: _Circle) -> Iterable[_Box]:
    """To its right or left, above or below; last, above and below to one side."""
    wide, aside = CHARACTER * len(circle.name), circle.radius + 5
    right, left = circle.x + aside, circle.x - aside - wide
    middle = min(max(circle.x - wide / 2, LEFT + 1), WIDTH - wide - 1)
    over = circle.radius + LINE
    places = [(right, 0.0), (left, 0.0), (middle, 2 - over), (middle, over)]
    for rise in (LINE, 2 * LINE, 3 * LINE):
        places += [(right, -rise), (left, -rise), (right, rise), (left, rise)]
    for start, rise in places:
        box = _Box(start, start + wide, circle.y + 4 + rise)
        if box.left > LEFT and box.right < WIDTH:
            yield box


def _leading(value: float) -> int:
    return int(f"{value:e}"[0])


def _round_ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9)))
    step = step if (high - low) / step >= 3 else step / 2
    first = math.ceil(low / step)
    return [first * step + step * place for place in range(int((high - first * step) / step) + 1)]


def _circle(x: float, y: float, radius: float, kind: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    shown = escape(for_terminal(words if len(words) <= 24 else f"{words[:23]}…"))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown}</text>'


def _figure(height: float, parts: Iterable[str], title: str, width: float = WIDTH) -> str:
    name = escape(for_terminal(title))
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )
