"""The pytest plugin: loaded by the root conftest.py, or with ``pytest -p optimize.plugin``."""

from optimize.plugin.hooks import (
    check_controls,
    deployed_labels,
    gate,
    judged_labels,
    kit,
    pytest_addoption,
    pytest_cmdline_main,
    pytest_configure,
    pytest_generate_tests,
    replay,
    report,
    shipped,
    timings,
    undecided,
    variants,
)

__all__ = [
    "check_controls",
    "deployed_labels",
    "gate",
    "judged_labels",
    "kit",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_configure",
    "pytest_generate_tests",
    "replay",
    "report",
    "shipped",
    "timings",
    "undecided",
    "variants",
]
