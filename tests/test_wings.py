"""Which layer may import what, checked in fresh interpreters."""

import subprocess
import sys
from pathlib import Path

import optimize

HEAVY = ("torch", "transformers", "datasets", "optimum", "evaluate", "accelerate")
PACKAGE = Path(optimize.__file__).parent
WITHOUT_TORCH = ("bundle", "settings", "data", "judge", "cli", "plugin")
LIGHT = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in [
        *PACKAGE.glob("*.py"),
        *(p for w in WITHOUT_TORCH for p in (PACKAGE / w).rglob("*.py")),
    ]
    if path.name != "__main__.py"
)
BASE = [
    "optimize",
    "optimize.bundle.manifest",
    "optimize.bundle.classifier",
    "optimize.judge.workers.worker",
    "optimize.cli",
]
SCRIPT = """
import importlib, sys
modules, forbidden = {modules!r}, {forbidden!r}
for module in modules:
    importlib.import_module(module)
    print(*(f"{{module}} brings {{name}}" for name in forbidden if name in sys.modules))
"""


def brought_in(modules, forbidden):
    code = SCRIPT.format(modules=modules, forbidden=forbidden)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_judge_and_runtime_never_import_torch():
    assert "optimize.judge.workers.worker" in LIGHT
    assert brought_in(LIGHT, HEAVY) == ""


def test_base_layer_needs_no_extra():
    assert brought_in(BASE, ("pydantic", "scipy", "pytest", "rich", "filelock", *HEAVY)) == ""


def test_a_recipe_of_ones_own_models_needs_no_builder():
    """What is judged where nothing is built: `optimize check` and `pytest benchmarks` of it."""
    modules = ["optimize.pipeline.graph", "optimize.pipeline.preflight", "optimize.pipeline.kit"]
    assert brought_in(modules, (*HEAVY, "onnx", "sklearn", "optuna")) == ""
