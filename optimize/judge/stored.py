"""Reports as they are stored: read, checked, and brought up to today's schema."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from optimize.bundle.manifest import StoredError, read_versioned
from optimize.judge.gates.comparisons import compared
from optimize.judge.records import REPORT_SCHEMAS, Report


def read_report(path: Path) -> Report:
    """A report that a run wrote.

    Raises:
        StoredError: not a file, not JSON, or of a schema version that is not known here.
    """
    again = "Judge again: `pytest benchmarks --out DIR`."
    content = read_versioned(path, REPORT_SCHEMAS, again)
    try:
        return compared(Report.model_validate(content))
    except ValidationError as error:
        raise StoredError(f"{path} is not a report: {error}") from error
