"""Commands that make something: a recipe, a kit, a report."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from optimize.bundle.manifest import KIT_NAME
from optimize.cli.common import exit_code, request_of, settings_of, teller_of
from optimize.data.splits import SPLITS
from optimize.disk import check_writable
from optimize.escape import lines_for_terminal
from optimize.telling import Teller

if TYPE_CHECKING:
    from optimize.data.splits import Splits
    from optimize.settings.recipe import Settings


COST_TEXTS = 1000  # whose tokens are counted for the cost


def run(arguments: argparse.Namespace) -> int:
    """Build, judge, and write the report."""
    from optimize.judge.baseline import refuse_own_folder
    from optimize.judge.reports.brief import gates_json
    from optimize.judge.reports.render import clear_report, failure_told, terminal, write_report
    from optimize.judge.request import JudgedRun
    from optimize.pipeline.runner import build

    refuse_own_folder(arguments.baseline, arguments.out)
    request = request_of(arguments, baseline=arguments.baseline)
    with teller_of(arguments) as tell, failure_told(arguments.out):
        judged = JudgedRun(request, partial(build, judged=True))
        judged.check()
        clear_report(arguments.out)  # makes it too: what is refused at once makes none
        _, report = judged.judge(tell)
    write_report(report, arguments.out)
    if arguments.json:
        print(gates_json(report))
        return exit_code(report.verdict, arguments)
    width = shutil.get_terminal_size((160, 24)).columns
    print(terminal(report, width, colour=sys.stdout.isatty()))
    print(f"report: {arguments.out / 'report.json'}")
    return exit_code(report.verdict, arguments)


def build(arguments: argparse.Namespace) -> int:
    """Build the kit, and copy it where it is asked for."""
    from optimize.pipeline.runner import build
    from optimize.training.distributed import Processes
    from optimize.training.profile import Profile

    chosen, _ = settings_of(arguments)
    if arguments.explain is not None or arguments.why is not None:
        return _explain(chosen, arguments)
    target: Path = arguments.out
    if target.exists() and not (target / KIT_NAME).is_file():
        raise FileExistsError(f"{target} exists and is not a kit; choose another folder with --out")
    check_writable(target)
    profile = Profile()
    with profile.section("everything else"), teller_of(arguments) as tell:
        kit = build(chosen, tell, profile=profile)
    processes = Processes.launched()
    processes.leave()
    if not processes.first:
        return 0
    if arguments.profile:
        stream = sys.stderr if arguments.json else sys.stdout
        print("\n".join(profile.lines()), file=stream)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        shutil.copytree(kit, Path(work, "kit"))
        if target.exists():
            target.rename(Path(work, "old"))
        Path(work, "kit").rename(target)
    bundle = arguments.out / chosen.regression.candidate
    if arguments.json:
        print(json.dumps({"kit": str(arguments.out), "bundle": str(bundle)}))
    else:
        print(f"kit: {arguments.out}\nbundle: {bundle}")
    return 0


def _explain(chosen: Settings, arguments: argparse.Namespace) -> int:
    from optimize.pipeline.cache import StageCache, default_root
    from optimize.pipeline.explain import difference, explanation
    from optimize.pipeline.runner import Build, Runner

    stages = Build(chosen, Runner(Teller(quiet=True))).stages
    named = [name for name in (arguments.explain, arguments.why) if name]
    for name in named:
        if name not in stages:
            raise ValueError(f"no stage {name!r}; this recipe has {', '.join(stages)}")
    told: dict[str, dict[str, list[str]]] = {}
    if arguments.explain is not None:
        told["explain"] = {arguments.explain: list(explanation(stages[arguments.explain]))}
    if arguments.why is not None:
        entries = list(StageCache(default_root()).entries())
        asked = named[-1:] or stages
        told["why"] = {name: difference(stages[name], entries) for name in asked}
    if arguments.json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        print("\n".join(line for by in told.values() for lines in by.values() for line in lines))
    return 0


def adopt(arguments: argparse.Namespace) -> int:
    """Make a bundle of a model that was built elsewhere."""
    from optimize.quantize.adopt import adopt

    target: Path = arguments.out
    if target.exists():
        raise FileExistsError(f"{target} is there already; choose another folder with --out")
    check_writable(target)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        result = Path(work, "bundle")
        result.mkdir()
        manifest = adopt(
            arguments.model,
            result,
            max_length=arguments.max_length,
            text_pair=arguments.pairs,
        )
        if manifest.format != "onnx":
            raise ValueError(
                f"{arguments.model} is a bundle of {manifest.format}, which `optimize predict` "
                "does not read; take the kit's teacher-onnx or student-onnx, or the checkpoint "
                "that it was made of. To judge it as it is: "
                f'[variants.NAME] model = "{arguments.model}"'
            )
        result.rename(target)
    kind = "INT8" if manifest.quantization else "fp32"
    print(
        f"bundle: {target} ({kind}, {manifest.size_bytes / 1e6:,.1f} MB, "
        f"{len(manifest.labels)} labels, at most {manifest.max_length} tokens)\n"
        f"next: optimize predict {target} TEXT, or [variants.NAME] model = "
        f'"{target}" in a recipe'
    )
    return 0


def cache(arguments: argparse.Namespace) -> int:
    """Show the stages in the cache, or prune them."""
    from optimize.pipeline.cache import StageCache, default_root

    cache = StageCache(default_root())
    every = [*cache.entries(), *cache.unfinished()]
    entries = sorted(every, key=lambda entry: (entry.name, entry.age_days))
    if arguments.older_than is None:
        for entry in entries:
            size = f"{entry.size_bytes / 1e6:10,.1f} MB"
            print(f"{size} {entry.age_days:6.1f} days  {entry.name}-{entry.key}")
        print(
            f"{len(entries)} stages in {default_root()}, {cache.disk_bytes() / 1e6:,.1f} MB on disk"
        )
        return 0
    before = cache.disk_bytes()
    removed = 0
    for entry in entries:
        if entry.age_days < arguments.older_than or (arguments.keep_kits and entry.name == "kit"):
            continue
        if cache.remove(entry):
            removed += 1
        else:
            print(f"in use, left: {entry.name}-{entry.key}")
    freed = before - cache.disk_bytes()
    print(f"{removed} of {len(entries)} stages removed, {freed / 1e6:,.1f} MB freed")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Check recipe, data and checkpoints; train nothing."""
    from optimize.data.summary import summary
    from optimize.pipeline.graph import graph
    from optimize.pipeline.preflight import preflight, undecidable
    from optimize.pipeline.runner import load_splits

    chosen, source = settings_of(arguments)
    splits = load_splits(chosen)
    for stage in graph(chosen, splits).values():
        stage.key  # noqa: B018 — looks at every file that a build would read
    tokenizer = preflight(chosen)
    faults = undecidable(chosen, splits)
    if arguments.json:
        print(json.dumps(_checked(chosen, splits) | {"undecidable": faults}))
        return 0
    print(f"settings: {source}")
    print(
        f"data: {len(splits.train)} train, {len(splits.validation)} validation, "
        f"{len(splits.test)} test texts; {len(splits.label_names)} labels"
    )
    if tokenizer is None:
        print(lines_for_terminal("\n".join(summary(splits))))
        print(f"variants: {', '.join(chosen.judged_variants)}")
        _print_gates(chosen, faults)
        return 0
    from optimize.models.fit import token_lengths
    from optimize.pipeline.cost import cost_of, measured_pace

    lengths = partial(token_lengths, tokenizer, pairs=splits.pairs)
    print(lines_for_terminal("\n".join(summary(splits, chosen.teacher.max_length, lengths))))
    tokens = lengths(splits.train.texts[:COST_TEXTS])
    pace = measured_pace(chosen, tokens, chosen.teacher.max_length)
    print(f"cost: {cost_of(chosen, splits, pace).line}")
    _print_gates(chosen, faults)
    return 0


def _print_gates(chosen: Settings, faults: Sequence[str]) -> None:
    print(f"gates: {', '.join(chosen.active_gates) or 'none'}")
    for fault in faults:
        print(lines_for_terminal(f"a run would be refused: {fault}"))


def _checked(chosen: Settings, splits: Splits) -> dict[str, Any]:
    """What was checked, for machines."""
    return {
        "texts": {name: len(splits[name]) for name in SPLITS},
        "labels": list(splits.label_names),
        "problem_type": splits.training.problem_type,
        "variants": list(chosen.judged_variants),
        "gates": list(chosen.active_gates),
    }


def init(arguments: argparse.Namespace) -> int:
    """Look at data and a checkpoint, and write a first recipe."""
    from optimize.data.summary import summary
    from optimize.pipeline.initial import initial_recipe

    if arguments.out.exists():
        raise FileExistsError(f"{arguments.out} is there already; choose another file with --out")
    check_writable(arguments.out)
    found = initial_recipe(arguments.data, arguments.checkpoint, arguments.minutes)
    arguments.out.write_text(found.text, encoding="utf-8")
    print(lines_for_terminal(found.text))
    print(lines_for_terminal("\n".join(summary(found.splits))))
    print(found.cost.line)
    name = shlex.quote(str(arguments.out))
    print(f"recipe: {arguments.out}; next: optimize run --recipe {name}")
    return 0
