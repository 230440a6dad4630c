"""The judge on a system like Windows, simulated: no /proc, no fork, no priorities, no resource.

What is taken away here is what Windows has not. It is no Windows: paths, file locks and the console
are this system's. CI runs the base layer on a real one.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PRELUDE = """
import builtins, io, os, pathlib, select, selectors, sys
import msgspec, numpy, onnxruntime, tokenizers  # as they are

for name in ("fork", "setpriority", "getpriority", "setsid", "sched_getaffinity", "set_blocking",
             "register_at_fork", "sysconf", "on_exit", "sched_setscheduler", "sched_getscheduler",
             "sched_setaffinity"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("resource", "fcntl"):
    sys.modules[name] = None
for module, name in ((select, "select"), (selectors, "DefaultSelector")):
    setattr(module, name, None)  # pipes cannot be waited for

_open = io.open
def no_proc(path, *arguments, **more):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(2, "no such file", str(path))
    return _open(path, *arguments, **more)
io.open = builtins.open = no_proc
_glob = pathlib.Path.glob
def no_glob(self, *arguments, **more):
    return iter(()) if str(self).startswith("/proc") else _glob(self, *arguments, **more)
pathlib.Path.glob = no_glob
"""
# The judge's own, which a worker does without.
JUDGES = "import pydantic, scipy.optimize, scipy.stats\n"
MEMORY = "import optimize.machine as machine\nmachine.peak_rss_bytes = lambda: 1 << 20\n"
JUDGE = """
import dataclasses, sys
from pathlib import Path
from optimize import Classifier, settings
from optimize.judge import run
from optimize.judge.kit import read_kit
from optimize.judge.workers import process

kit = read_kit(Path(sys.argv[1]))
chosen = settings.parse({
    "judge": {"variants": ["student-onnx", "student-int8"], "quick_blocks": 4, "block_ms": 1.0,
              "threads": 1, "workloads": {"typical": {"texts": 4}}},
    "gates": {"size": {"kind": "size", "reference": "student-onnx", "min_reduction_pct": 1.0},
              "speed": {"kind": "speedup", "reference": "student-onnx", "min_ratio": 1e-3}},
}, "test")
own = run._Run._spec
run._Run._spec = lambda self, *arguments: dataclasses.replace(
    own(self, *arguments), command=(sys.executable, "-c", sys.argv[2]))
report = run.judge(kit, chosen, "test", "quick", lambda line: None)
print(report.verdict, report.timing.priority, report.timing.beside_neighbours)
print(Classifier(kit.variants["student-int8"].folder, threads=1).predict(["refund"])[0].label)
"""
WORKER = "from optimize.judge.workers.worker import main\nmain()\n"


def test_a_kit_is_judged_without_what_windows_has_not(tiny_kit):
    without = PRELUDE + MEMORY
    done = subprocess.run(
        [sys.executable, "-c", JUDGES + without + JUDGE, str(tiny_kit), without + WORKER],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict, label = done.stdout.splitlines()
    assert verdict.split() in (["pass", "False", "False"], ["inconclusive", "False", "False"])
    assert label in {"cancel", "refund", "track"}
