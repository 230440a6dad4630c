"""What is wrong with rows, told all at once."""

from __future__ import annotations

from optimize.data.splits import DataError

MOST_SHOWN = 20


class Faults:
    """Collects what is wrong with single rows, so that one refusal names all of it."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._count = 0

    def add(self, fault: str) -> None:
        """Note one: file, row, column, value and remedy."""
        self._count += 1
        if len(self._shown) < MOST_SHOWN:
            self._shown.append(fault)

    def refuse(self) -> None:
        """Raise :class:`DataError` with the first of them and the number of the others, if any."""
        if not self._count:
            return
        if self._count == 1:
            raise DataError(self._shown[0])
        lines = [f"{self._count:,} rows cannot be used:", *(f"  {fault}" for fault in self._shown)]
        if left := self._count - len(self._shown):
            lines.append(f"  and {left:,} more")
        raise DataError("\n".join(lines))
