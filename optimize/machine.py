"""What this machine is: cores one may use, instruction sets, CPU model."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from optimize.cgroup import cpu_quota, throttled_s

CPU_INFO = Path("/proc/cpuinfo")

# From the widest INT8 kernels to the narrowest: the first that the CPU has is its class, since
# the kernel that runs decides both the speed and, without VNNI, the scores of an INT8 model.
ISA_CLASSES = (
    "amx_int8",
    "avx512_vnni",
    "avx_vnni",
    "avx512f",
    "avx2",
    "i8mm",
    "asimddp",
    "asimd",
)
OTHER_ISA = "other"
# Neighbours are those that want a core at a look, and at so many more, so far apart.
MORE_LOOKS = 2
LOOK_APART_S = 0.0005


def available_cores() -> int:
    """Cores that this process may use: its affinity, cut by the container's CPU quota.

    Thread pools size themselves to the host's cores (onnxruntime issue 29510), which in a
    container with a quota means threads that wait for each other.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


@lru_cache(maxsize=1)
def isa_flags() -> tuple[str, ...]:
    """The instruction sets of :data:`ISA_CLASSES` that this CPU has, widest first."""
    flags = _cpu_flags()
    return tuple(name for name in ISA_CLASSES if name in flags)


def multiplies_u8s8_exactly() -> bool:
    """Whether the U8S8 kernels cannot saturate: all but x86-64 without VNNI."""
    flags = isa_flags()
    x86 = "avx2" in flags or "avx512f" in flags
    return not x86 or bool({"amx_int8", "avx512_vnni", "avx_vnni"} & set(flags))


def isa_class() -> str:
    """The widest instruction set that INT8 kernels can use here, or ``other``."""
    flags = isa_flags()
    return flags[0] if flags else OTHER_ISA


def has_fast_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 faster than float32.

    With AVX512-BF16 and without AMX, torch's matrix products took twice as long as in float32
    (165 against 310 GFLOP/s on two cores).
    """
    return bool(_cpu_flags() & {"amx_bf16", "bf16"})


def training_precision(asked: str) -> str:
    """``fp32`` or ``bf16``: what ``auto`` means on this CPU, or what was asked for."""
    if asked != "auto":
        return asked
    return "bf16" if has_fast_bf16() else "fp32"


def cpu_model() -> str:
    """The CPU's own name, or the machine's architecture where it has none."""
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    for line in _cpu_info_lines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    if sys.platform == "darwin":
        arm = {"i8mm": "FEAT_I8MM", "asimddp": "FEAT_DotProd", "bf16": "FEAT_BF16"}
        flags = {name for name, key in arm.items() if _sysctl(f"hw.optional.arm.{key}") == "1"}
        if platform.machine() == "arm64":
            flags.add("asimd")
        return flags | set(_sysctl("machdep.cpu.leaf7_features").lower().split())
    for line in _cpu_info_lines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def _cpu_info_lines() -> list[str]:
    try:
        return CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _sysctl(key: str) -> str:
    command = ["sysctl", "-n", key]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def peak_rss_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Peak resident memory of this process.

    Linux tells it as VmHWM. Its ``ru_maxrss`` would not do: a process starts with that of the one
    that spawned it.
    """
    try:
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return _windows_peak_bytes()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _windows_peak_bytes() -> int:
    """Peak working set (psapi.h, PROCESS_MEMORY_COUNTERS: the size, a count, and then the peak)."""
    import ctypes

    counters = (ctypes.c_size_t * 10)()
    # Its first two fields have 32 bits each.
    ctypes.cast(counters, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(counters)
    libraries: Any = ctypes
    own = libraries.windll.kernel32.GetCurrentProcess()
    libraries.windll.psapi.GetProcessMemoryInfo(own, counters, ctypes.sizeof(counters))
    return int(counters[1])


def run_queue_wait_s(tasks: Path = Path("/proc/self/task")) -> float:
    """Seconds that this process's threads were ready to run and had no core, since they began.

    Linux counts them per thread (kernel documentation, "Scheduler Statistics", schedstat's second
    figure). A neighbour on the same cores shows here, and in no other count. 0 where nothing tells.
    """
    waited = 0
    for task in tasks.glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread may end while it is read
            waited += int(task.read_text(encoding="ascii").split()[1])
    return waited / 1e9


def neighbours(stat: Path = Path("/proc/stat")) -> int:
    """Other threads of this machine that go on wanting a core; 0 where nothing tells.

    Those beyond the cores that are left, since what runs on another core takes none from here. The
    system's own threads want one for less than a millisecond now and then, and most of all where a
    worker has just answered: on an idle machine 40 % of single looks saw one, and 5 % of those did
    0.3 ms later. So others are counted that are there at every one of a few looks.
    """
    others = _wanting_a_core(stat)
    for _ in range(MORE_LOOKS):
        if others == 0:
            break
        time.sleep(LOOK_APART_S)
        others = min(others, _wanting_a_core(stat))
    return others


def _wanting_a_core(stat: Path) -> int:
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
        running = next(int(line.split()[1]) for line in lines if line.startswith("procs_running"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0
    spare = (os.cpu_count() or 1) - available_cores()
    return max(0, running - 1 - spare)  # the reader runs itself


def is_asleep(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether no thread of a process is running or ready to run; true where nothing tells."""
    for stat in (proc / str(pid) / "task").glob("*/stat"):
        with suppress(OSError, IndexError):  # a thread may end while it is read
            # The state stands behind the name, which is in parentheses and may hold some itself.
            if (
                stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
                == "R"
            ):
                return False
    return True


class Disturbance:
    """What took the cores away since the last look: hypervisor steal and quota throttling."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._before = self._read()

    def since_last(self) -> tuple[float, float]:
        """(seconds stolen, seconds throttled) since the last call, 0 where it is not told."""
        now = self._read()
        stolen, throttled = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        return stolen, throttled

    def _read(self) -> tuple[float, float]:
        stolen = 0.0
        # cpu user nice system idle iowait irq softirq steal …, in clock ticks
        with suppress(OSError, ValueError, IndexError):
            first = self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()
            stolen = int(first[8]) / os.sysconf("SC_CLK_TCK")
        return stolen, throttled_s()
