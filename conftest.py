"""Loads the plugin for this repository's own benchmarks."""

pytest_plugins = ["optimize.plugin"]
