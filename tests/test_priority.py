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
if (child := os.fork()) == 0:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, priority.FIRST_PRIORITY)
    except PermissionError:
        os._exit(1)
    os._exit(0)
allowed = os.waitpid(child, 0)[1] == 0
priority.take_priority()
print(allowed, os.getpriority(os.PRIO_PROCESS, 0), os.getsid(0) == os.getpid())
"""


@pytest.mark.parametrize("case", ["refused", "asked"])
def test_first_place_is_taken_where_it_is_allowed(case):
    """Whether it is depends on who runs this; a worker that may not have it goes on without."""
    done = subprocess.run(
        [sys.executable, "-c", PRIORITY, case], capture_output=True, text=True, check=True
    )
    allowed, nice, own_session = done.stdout.split()
    assert allowed == str(int(nice) == priority.FIRST_PRIORITY)
    assert own_session == "True"
    if case == "refused":
        assert int(nice) == os.getpriority(os.PRIO_PROCESS, 0)


REAL_TIME = """
import os, subprocess, sys, threading
from optimize.priority import real_time
SHOW = "import os; print(os.sched_getscheduler(0))"
def policies():
    found = map(os.sched_getscheduler, map(int, os.listdir("/proc/self/task")))
    return {policy & ~os.SCHED_RESET_ON_FORK for policy in found}
if sys.argv[1] == "refused":
    def refuse(*_): raise PermissionError
    os.sched_setscheduler = refuse
end = threading.Event()
threading.Thread(target=end.wait).start()
for _ in range(2):
    try:
        with real_time() as has:
            inside = policies()
            threading.Thread(target=end.wait).start()
            child = subprocess.check_output([sys.executable, "-c", SHOW], text=True)
            if sys.argv[1] == "raises":
                raise KeyError
    except KeyError:
        pass
print(has, inside == {os.SCHED_RR}, policies() == {os.SCHED_OTHER}, child.strip())
end.set()
"""
needs_policies = pytest.mark.skipif(
    not hasattr(os, "sched_setscheduler"), reason="this system has no real-time policies to set"
)


@needs_policies
@pytest.mark.parametrize("case", ["asked", "raises", "refused"])
def test_every_thread_is_real_time_within_and_none_after(case):
    """Also where the call within it fails, and the second time; its child processes never are."""
    done = subprocess.run(
        [sys.executable, "-c", REAL_TIME, case], capture_output=True, text=True, check=True
    )
    has, inside, none_after, child = done.stdout.split()
    assert has == inside
    assert none_after == "True"
    assert int(child) == os.SCHED_OTHER
    if case == "refused":
        assert has == "False"


OWN_POLICY = """
import os
from optimize.priority import real_time
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
with real_time() as has:
    print(has, os.sched_getscheduler(0) == os.SCHED_BATCH)
print(os.sched_getscheduler(0) == os.SCHED_BATCH)
"""


@needs_policies
def test_a_policy_of_ones_own_is_kept():
    """Who started the suite with one has a reason."""
    done = subprocess.run(
        [sys.executable, "-c", OWN_POLICY], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "True"]


@pytest.fixture
def asked(monkeypatch):
    """The policies that are asked for; the system refuses them all."""
    found = []

    def refuse(task, policy, param):
        found.append(policy & ~os.SCHED_RESET_ON_FORK)
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    return found


@needs_policies
@pytest.mark.parametrize("runtime", ["-1\n", "", None])
def test_a_system_that_leaves_others_no_time_is_left_alone(runtime, tmp_path, asked):
    """A worker that never ends would hold all cores, and its parent could not end it."""
    told = tmp_path / "sched_rt_runtime_us"
    if runtime is not None:
        told.write_text(runtime)
    with priority.real_time(runtime=told) as has:
        assert not has
    assert not asked


@needs_policies
def test_what_was_refused_is_not_given_back(tmp_path, asked):
    """To ask for the usual policy is allowed to all, and would change what is begun later."""
    told = tmp_path / "sched_rt_runtime_us"
    told.write_text("950000\n")
    with priority.real_time(runtime=told) as has:
        assert not has
    assert set(asked) == {os.SCHED_RR}
