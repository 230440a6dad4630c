"""Fuzz the parsers: ``python tests/fuzz/run.py --minutes N [TARGET ...]`` (``tox run -e fuzz``).

atheris (libFuzzer for Python) changes the inputs of ``tests/corpus/TARGET`` and keeps those that
reach new code. Each target has its own process and an equal share of the time. At the end stands a
line a target: inputs tried, accepted, refused as documented, else. ``else`` must be 0; the input
that did it lies in ``--work``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
CORPUS = ROOT / "tests" / "corpus"
LONGEST_INPUT = 8192
# The child's counts are written every so many inputs; what libFuzzer ends is not told.
EVERY = 256
SHOWN_LINES = 25


def fuzz(name: str, work: Path, seconds: int) -> None:
    """Fuzz one target in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["optimize"]):
        from fuzz.targets import TARGETS
    target, counts = TARGETS[name], {"tried": 0, "accepted": 0, "refused": 0}
    folder = Path(tempfile.mkdtemp(dir=_memory(), prefix="optimize-fuzz-"))
    told = work / f"{name}.json"

    def one(content: bytes) -> None:
        # Counted before it is tried: the input that ends the process is in the difference.
        counts["tried"] += 1
        if counts["tried"] % EVERY == 1:
            told.write_text(json.dumps(counts))
        accepted = target(content, folder)
        counts["accepted" if accepted else "refused"] += 1

    found = work / name
    found.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-print_final_stats=1",
        f"-artifact_prefix={work / name}-", "-rss_limit_mb=4096", "-timeout=30",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *arguments, str(found), str(CORPUS / name)], one)
    atheris.Fuzz()


def _memory() -> str | None:
    """A folder in memory, where the system has one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    """Fuzz every target named, one after the other, and print the table."""
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--work", type=Path, default=ROOT / ".fuzz", help="what was found")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    seconds = max(1, round(60 * arguments.minutes / len(arguments.targets)))
    failed = 0
    print(f"{'target':12} {'tried':>10} {'accepted':>10} {'refused':>10} {'else':>6}  seconds")
    for name in arguments.targets:
        code = (
            "from pathlib import Path; from fuzz.run import fuzz; "
            f"fuzz({name!r}, Path({str(arguments.work.resolve())!r}), {seconds})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        other = int(done.returncode != 0)
        if not (arguments.work / f"{name}.json").is_file():
            raise SystemExit(f"{name} did not start: {done.stderr}")
        failed += other
        print(f"{_row(name, arguments.work, done.stderr)} {other:6}  {seconds}", flush=True)
        if other:
            print("\n".join(f"    {line}" for line in done.stderr.splitlines()[-SHOWN_LINES:]))
    return 1 if failed else 0


def _row(name: str, work: Path, log: str) -> str:
    counts = json.loads((work / f"{name}.json").read_text())
    executed = [line for line in log.splitlines() if "number_of_executed_units" in line]
    tried = int(executed[-1].split()[-1]) if executed else counts["tried"]
    accepted = round(tried * counts["accepted"] / max(1, counts["accepted"] + counts["refused"]))
    return f"{name:12} {tried:10} {accepted:10} {tried - accepted:10}"


if __name__ == "__main__":
    sys.exit(main())
