"""The command ``optimize``."""

from optimize.cli.commands import main

__all__ = ["main"]
