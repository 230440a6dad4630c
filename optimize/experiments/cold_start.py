"""A bundle's cold start against that of ``transformers.pipeline`` with the same student, in turn.

    python -m optimize.experiments.cold_start KIT [--runs 10]

Whole processes, one after the other: from the start of the interpreter to the first answer, and the
peak of its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CLASSIFIER = """
import sys
from optimize import Classifier
answer = Classifier(sys.argv[1]).predict([sys.argv[2]])[0].label
"""
PIPELINE = """
import sys
from transformers import pipeline
answer = pipeline("text-classification", model=sys.argv[1])(sys.argv[2])[0]["label"]
"""
TELL = """
import json
from optimize.machine import peak_rss_bytes
print(json.dumps([answer, peak_rss_bytes()]), flush=True)
"""


def first_answer(script: str, folder: Path, text: str) -> tuple[str, float, int]:
    """(answer, seconds from the spawn to it, peak bytes) of one fresh process.

    Raises:
        RuntimeError: it gave no answer; with what it wrote to standard error.
    """
    command = [sys.executable, "-c", script + TELL, str(folder), text]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("no pipe to the child")
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        errors = process.stderr.read()
    if not line:
        raise RuntimeError(f"no answer from {folder}: {errors.strip()[-2000:]}")
    answer, peak = json.loads(line)
    return str(answer), seconds, int(peak)


def main(argv: Sequence[str] | None = None) -> int:
    """Print both sides' medians and their ratios."""
    parser = argparse.ArgumentParser(description="Cold start of a bundle and of a pipeline.")
    parser.add_argument("kit", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--text", default="where is my parcel")
    arguments = parser.parse_args(argv)
    sides = {
        "Classifier, INT8": (CLASSIFIER, arguments.kit / "student-int8"),
        "transformers.pipeline": (PIPELINE, arguments.kit / "student-torch"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, list[int]] = {name: [] for name in sides}
    for script, folder in sides.values():
        first_answer(script, folder, arguments.text)  # files come into the page cache
    for _ in range(arguments.runs):
        for name, (script, folder) in sides.items():
            _, lasted, peak = first_answer(script, folder, arguments.text)
            seconds[name].append(lasted)
            peaks[name].append(peak)
    ours, theirs = sides
    for name in sides:
        sys.stdout.write(
            f"{name:22} {statistics.median(seconds[name]):6.2f} s to the first answer, "
            f"{statistics.median(peaks[name]) / 2**20:6.0f} MiB at the peak\n"
        )
    time_ratio = statistics.median(
        theirs_s / ours_s for ours_s, theirs_s in zip(seconds[ours], seconds[theirs], strict=True)
    )
    memory_ratio = statistics.median(peaks[theirs]) / statistics.median(peaks[ours])
    sys.stdout.write(
        f"{time_ratio:.1f}× as fast, {memory_ratio:.1f}× less memory; medians of "
        f"{arguments.runs} processes each, in turn\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
