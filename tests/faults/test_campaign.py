"""The campaign of faults, a short one; `tox run -e faults` runs the whole."""

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("campaign.py")


@pytest.mark.whole
@pytest.mark.torch
@pytest.mark.skipif(sys.platform == "win32", reason="its children are forked")
def test_a_short_campaign_loses_nothing():
    # Flipped files have tests of their own, in pipeline/test_cache.
    only = ("--only", "kills at random moments")
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--scale", "1", *only],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.rstrip().endswith(" 0 lost")
