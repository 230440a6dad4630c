"""Who runs before others."""

import os
import subprocess
import sys

import pytest

from optimize import priority

PRIORITY = """
import os, sys
from optimize import priority
if sys.argv[1] == "refused":
    def refuse(*_): raise PermissionError
    os.setpriority = refuse
had = priority.take_priority()
print(had, os.getpriority(os.PRIO_PROCESS, 0), os.getsid(0) == os.getpid())
"""


@pytest.mark.parametrize("case", ["refused", "asked"])
def test_priority_is_told_as_it_is(case):
    """Whether a worker may have it depends on who runs it; that it says which does not."""
    done = subprocess.run(
        [sys.executable, "-c", PRIORITY, case], capture_output=True, text=True, check=True
    )
    had, nice, own_session = done.stdout.split()
    assert had == str(int(nice) == priority.FIRST_PRIORITY)
    assert own_session == "True"
    if case == "refused":
        assert int(nice) == os.getpriority(os.PRIO_PROCESS, 0)
