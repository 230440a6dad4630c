"""Where the time of a build goes: seconds by stage, and within training by kind of work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Profile:
    """Adds up seconds by section. A section's seconds are its own, not those of what it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inside: list[float] = []  # seconds of the sections within each open one
        self._started: float | None = None

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count what runs inside."""
        begun = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            lasted = time.perf_counter() - begun
            own = lasted - self._inside.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            self.calls[name] = self.calls.get(name, 0) + 1
            if self._inside:
                self._inside[-1] += lasted

    def lines(self) -> list[str]:
        """The table, the longest first."""
        total = sum(self.seconds.values())
        order = sorted(self.seconds, key=lambda name: -self.seconds[name])
        return [
            f"{self.seconds[name]:8.1f} s {100 * self.seconds[name] / total:5.1f} %  "
            f"{self.calls[name]:7} ×  {name}"
            for name in order
        ]
