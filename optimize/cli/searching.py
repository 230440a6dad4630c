"""Commands that search: how a student learns, and what shape it has."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

from optimize.cli.common import settings_of, teller_of
from optimize.disk import check_writable


def tune(arguments: argparse.Namespace) -> int:
    """Search a recipe, and write the best."""
    from optimize.pipeline.tune import front, recipe_toml, tune

    _keep_what_it_begins_from(arguments, arguments.out)
    if arguments.out.is_dir():
        raise ValueError(f"--out {arguments.out} is a folder; name the recipe that is written")
    check_writable(arguments.out)
    chosen, source = settings_of(arguments)
    with teller_of(arguments) as tell:
        study = tune(chosen, arguments.storage, arguments.study, tell)
    trials = front(study)
    if arguments.json:
        shown = [{"trial": t.number, "values": t.values, "params": t.params} for t in trials]
        print(json.dumps({"front": shown, "recipe": str(arguments.out)}))
    for trial in () if arguments.json else trials:
        size = "" if len(trial.values) < 2 else f", {trial.values[1]:,.0f} parameters"
        print(f"trial {trial.number}: validation score {trial.values[0]:.4f}{size}")
    written = recipe_toml(trials[0], chosen, _base(arguments), arguments.overrides)
    arguments.out.write_text(written, encoding="utf-8")
    if not arguments.json:
        print(f"searched from {source}; the most accurate as a recipe: {arguments.out}")
    return 0


def search(arguments: argparse.Namespace) -> int:
    """Search a shape, and write the smallest that keeps the gates as a recipe."""
    from optimize.pipeline.search import search
    from optimize.pipeline.search_report import (
        checks_of,
        content_of,
        plot,
        recipe_of,
        table_of,
    )

    _keep_what_it_begins_from(arguments, arguments.out / "recipe.toml")
    chosen, source = settings_of(arguments)
    out: Path = arguments.out
    check_writable(out / "search.md")  # hours later the table would be lost
    with teller_of(arguments) as tell:
        outcome = search(chosen, arguments.minutes, tell)
    out.mkdir(parents=True, exist_ok=True)
    tables = [table_of(outcome), checks_of(outcome)]
    text = "\n\n".join(table for table in tables if table) + "\n"
    (out / "search.md").write_text(text, encoding="utf-8")
    content = content_of(outcome)
    (out / "search.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is not None:
        plot(outcome, chosen, out / "search.svg")
    base = _base(arguments)
    recipe = out / ("recipe.toml" if base is not None else "tables-for-pyproject.toml")
    recipe.unlink(missing_ok=True)  # an earlier search's
    if outcome.picked is not None:
        recipe.write_text(recipe_of(outcome, base, arguments.overrides), encoding="utf-8")
    if arguments.json:
        print(json.dumps(content))
    else:
        print(text)
        told = outcome.why if outcome.picked is None else f"recipe: {recipe}"
        print(f"searched from {source}; {told}")
        if outcome.unchecked:
            print(f"not looked at, judge them: {', '.join(outcome.unchecked)}")
    return 0 if outcome.picked is not None else 1


def _keep_what_it_begins_from(arguments: argparse.Namespace, target: Path) -> None:
    """Refuse to write a recipe over one that it extends: both would be lost.

    Raises:
        ValueError: names the file and the remedy.
    """
    from optimize.settings.load import recipe_files

    if target.resolve() in recipe_files(arguments.recipe, Path.cwd()):
        raise ValueError(
            f"{target} is a recipe that this begins from, and what is found extends it; choose "
            "another place with --out"
        )


def sensitivity(arguments: argparse.Namespace) -> int:
    """Say what each node costs in INT8, and which to leave in fp32."""
    from optimize.pipeline.runner import Build, Runner
    from optimize.quantize.sensitivity import excluded_until, plot, sensitivity, table_of

    chosen, _ = settings_of(arguments)
    if arguments.plot is not None:
        import matplotlib  # noqa: F401 — asked for before hours of work, and not after

        check_writable(arguments.plot)
    with teller_of(arguments) as tell:
        if not chosen.builds_chain:
            raise ValueError("this recipe builds no student: there are no nodes of one")
        if chosen.quantize.recipe != "ort-dynamic":
            raise ValueError(
                f"quantize.recipe is {chosen.quantize.recipe!r}, and what a node costs is measured "
                'for "ort-dynamic": its graph has other nodes; set quantize.recipe = "ort-dynamic"'
            )
        built = Build(chosen, Runner(tell))
        model = built.runner.folder(built.stages["kit"].inputs["student-onnx"])
        split = built.splits.validation
        costs = sensitivity(model, split.texts, tell)
        exclude = None
        if arguments.until is not None:
            bits = chosen.quantize.embeddings
            exclude = excluded_until(model, costs, split, arguments.until, tell, bits)
    if arguments.json:
        print(json.dumps({"nodes": [cost._asdict() for cost in costs], "exclude": exclude}))
    else:
        print(table_of(costs))
    if exclude is not None and not arguments.json:
        print(f"[quantize]\nexclude = {json.dumps(exclude)}")
    if arguments.plot is not None:
        plot(costs, arguments.plot)
    return 0


def _base(arguments: argparse.Namespace) -> str | None:
    """The recipe that was searched from; none where it is the project's own."""
    from optimize.settings.load import DEFAULT_RECIPE, has_project_settings

    own = arguments.recipe is None and has_project_settings(Path.cwd())
    return None if own else arguments.recipe or DEFAULT_RECIPE
