import subprocess
import sys

import pytest

from optimize import machine


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("flags : avx512f avx512_bf16 avx512_vnni", False),  # twice as slow as float32
        ("flags : avx512_bf16 amx_bf16 amx_tile", True),
        ("Features : asimd bf16 i8mm", True),
        ("flags : avx2 fma", False),
    ],
)
def test_bfloat16_is_for_processors_that_are_faster_in_it(flags, fast, tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(machine, "CPU_INFO", info)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine.has_fast_bf16() is fast


def test_quota_cuts_the_cores(monkeypatch):
    monkeypatch.setattr(machine, "cpu_quota", lambda: 1.5)
    assert machine.available_cores() == 1
    monkeypatch.setattr(machine, "cpu_quota", lambda: 0.2)
    assert machine.available_cores() == 1
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    assert machine.available_cores() >= 1


def test_peak_memory_is_not_that_of_the_parent():
    ballast = bytearray(400 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    code = "from optimize.machine import peak_rss_bytes; print(peak_rss_bytes())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(run.stdout) < 200 << 20 < machine.peak_rss_bytes()


def test_disturbance_counts_what_was_taken(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    stat.write_text("cpu 1 2 3 4 5 6 7 100 0 0\n")
    monkeypatch.setattr(machine, "throttled_s", lambda: 1.0)
    watch = machine.Disturbance(stat)
    stat.write_text("cpu 1 2 3 4 5 6 7 150 0 0\n")
    monkeypatch.setattr(machine, "throttled_s", lambda: 3.5)
    stolen, throttled = watch.since_last()
    assert stolen > 0
    assert throttled == 2.5
    assert watch.since_last() == (0, 0)


def test_waits_of_all_threads_are_added_up(tmp_path):
    for task, line in {"1": "900 1500000000 3", "2": "1 500000000 1", "3": "cut"}.items():
        (tmp_path / task).mkdir()
        (tmp_path / task / "schedstat").write_text(line)
    assert machine.run_queue_wait_s(tmp_path) == 2.0
    assert machine.run_queue_wait_s(tmp_path / "none") == 0.0


@pytest.mark.parametrize(
    ("stat", "cores", "usable", "others"),
    [
        ("procs_running 1\n", 2, 2, 0),  # the reader
        ("cpu 1 2\nprocs_running 3\n", 2, 2, 2),
        ("procs_running 9\n", 64, 2, 0),  # there are cores for all of them
        ("procs_running 70\n", 64, 2, 7),
        ("procs_running\n", 2, 2, 0),
        ("", 2, 2, 0),
    ],
)
def test_neighbours_are_those_for_whom_no_other_core_is_left(
    stat, cores, usable, others, tmp_path, monkeypatch
):
    (tmp_path / "stat").write_text(stat)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(machine, "available_cores", lambda: usable)
    assert machine.neighbours(tmp_path / "stat") == others
    assert machine.neighbours(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("seen", "others"), [([3, 1], 0), ([3, 2, 3], 1), ([3, 3, 1], 0), ([1], 0)]
)
def test_who_wants_a_core_for_a_moment_is_no_neighbour(seen, others, monkeypatch):
    """The system's own threads do, and a worker that has just answered."""
    looks = iter(seen)
    monkeypatch.setattr(machine, "_wanting_a_core", lambda stat: next(looks) - 1)
    assert machine.neighbours() == others
    assert next(looks, None) is None
