"""Which layer may import what, checked in fresh interpreters."""

import subprocess
import sys
from pathlib import Path

import pytest

import optimize

HEAVY = ("torch", "transformers", "datasets", "optimum", "evaluate", "accelerate")
PACKAGE = Path(optimize.__file__).parent
LIGHT = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("judge/*.py")]
    if path.name != "__main__.py"
)
BASE = ("optimize", "optimize.records", "optimize.settings", "optimize.runtime")


def _imported_by(module: str, names: tuple[str, ...]) -> str:
    code = f"import sys, {module}; print([n for n in {names!r} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize("module", LIGHT)
def test_judge_and_runtime_never_import_torch(module):
    assert _imported_by(module, HEAVY) == "[]"


@pytest.mark.parametrize("module", BASE)
def test_base_layer_needs_no_extra(module):
    assert _imported_by(module, ("scipy", "pytest", "rich", "filelock", *HEAVY)) == "[]"
