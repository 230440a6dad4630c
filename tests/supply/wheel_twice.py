"""Build the wheel twice, in two copies of the tree, and compare: ``tox run -e supply``.

Whoever builds a release again gets the very bytes that were published.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".tox", ".venv", "__pycache__", ".*_cache", ".hypothesis")


def built(place: Path) -> Path:
    """The wheel of a copy of the tree, at a time of its own."""
    tree = shutil.copytree(ROOT, place / "tree", ignore=LEFT_OUT)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(place), str(tree)],
        env={**os.environ, "TZ": place.name},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return next(place.glob("*.whl"))


def main() -> int:
    """0 where both are the same bytes."""
    with tempfile.TemporaryDirectory() as work:
        places = [Path(work, zone) for zone in ("UTC", "Asia")]
        for place in places:
            place.mkdir()
        wheels = [built(place) for place in places]
        digests = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
        print(f"{wheels[0].name}: {digests[0]}, built again: {digests[1]}")
        return int(digests[0] != digests[1])


if __name__ == "__main__":
    sys.exit(main())
