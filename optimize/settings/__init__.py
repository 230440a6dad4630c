"""What a recipe may say, and its one reader."""

from optimize.settings.load import (
    DEFAULT_RECIPE,
    SettingsError,
    against_baseline,
    has_project_settings,
    load,
    parse,
    shipped_recipes,
    toml_table,
    with_overrides,
)
from optimize.settings.recipe import Settings

__all__ = [
    "DEFAULT_RECIPE",
    "Settings",
    "SettingsError",
    "against_baseline",
    "has_project_settings",
    "load",
    "parse",
    "shipped_recipes",
    "toml_table",
    "with_overrides",
]
