"""Threads that have a core each, and where that is left to the system."""

import os
import subprocess
import sys

import pytest

from optimize.placement import apart, busiest_first

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not say where a thread runs"
)


def folder_of_threads(folder, ran):
    for thread, nanoseconds in ran.items():
        (folder / str(thread)).mkdir()
        (folder / str(thread) / "schedstat").write_text(f"{nanoseconds} 5 7\n", "utf-8")
    return folder


class System:
    """Affinities of threads, as this system keeps them."""

    def __init__(self, monkeypatch, cores, threads):
        self.of = {thread: set(cores) for thread in (0, *threads)}
        self.set = []
        monkeypatch.setattr(os, "sched_getaffinity", lambda thread: self.of[thread])
        monkeypatch.setattr(os, "sched_setaffinity", self._set)

    def _set(self, thread, cores):
        self.set.append(thread)
        self.of[thread] = set(cores)


@pytest.fixture
def tasks(tmp_path):
    return folder_of_threads(tmp_path, {7: 4_000, 8: 11_000, 9: 5_000})


def test_the_thread_that_ran_most_comes_first(tasks):
    (tasks / "10").mkdir()  # it ended between the look into the folder and into it
    assert busiest_first(tasks) == [8, 9, 7, 10]


def test_the_busiest_have_a_core_each_and_all_are_free_again(tasks, monkeypatch):
    system = System(monkeypatch, {2, 5}, (7, 8, 9))
    with apart(2, tasks, lambda: 0) as held:
        assert held
        assert (system.of[8], system.of[9], system.of[7]) == ({2}, {5}, {2, 5})
    assert all(cores == {2, 5} for cores in system.of.values())


def test_they_are_free_again_after_a_failure_and_so_are_later_ones(tasks, monkeypatch):
    """A thread begins with the affinity of the one that began it."""
    system = System(monkeypatch, {2, 5}, (7, 8, 9))

    def fail():
        with apart(2, tasks, lambda: 0):
            folder_of_threads(tasks, {11: 1})
            system.of[11] = {2}
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(cores == {2, 5} for cores in system.of.values())


@pytest.mark.parametrize(
    ("threads", "cores", "others"),
    [
        pytest.param(2, {2, 5}, 1, id="others want a core"),
        pytest.param(2, {1, 2, 5}, 0, id="fewer threads than cores"),
        pytest.param(3, {2, 5}, 0, id="more threads than cores"),
        pytest.param(1, {2}, 0, id="one core"),
    ],
)
def test_the_system_chooses(threads, cores, others, tasks, monkeypatch):
    system = System(monkeypatch, cores, (7, 8, 9))
    with apart(threads, tasks, lambda: others) as held:
        assert not held
    assert not system.set


@pytest.mark.parametrize(("thread", "held"), [(9, False), (7, True)])
def test_an_affinity_of_ones_own_is_kept(thread, held, tasks, monkeypatch):
    """That of a thread that works leaves all as it is; that of one that rests outlives the rest."""
    system = System(monkeypatch, {2, 5}, (7, 8, 9))
    system.of[thread] = {5}
    before = dict(system.of)
    with apart(2, tasks, lambda: 0) as found:
        assert found is held
        assert bool(system.set) is held
    assert system.of == before


def test_where_the_system_has_no_affinities(tasks, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    with apart(2, tasks, lambda: 0) as held:
        assert not held


REAL = """
import os, threading
from optimize.placement import apart
cores = os.sched_getaffinity(0)
end = threading.Event()
for _ in cores:
    threading.Thread(target=end.wait).start()
with apart(len(cores), others=lambda: 0) as held:
    inside = sorted(map(sorted, map(os.sched_getaffinity, map(int, os.listdir("/proc/self/task")))))
    late = threading.Thread(target=end.wait)
    late.start()
after = {tuple(sorted(os.sched_getaffinity(int(task)))) for task in os.listdir("/proc/self/task")}
end.set()
single = [places for places in inside if len(places) == 1]
assert not held or single == [[core] for core in sorted(cores)], inside
assert after == {tuple(sorted(cores))}, after
print(held == (len(cores) > 1))
"""


def test_this_system_does_so():
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
