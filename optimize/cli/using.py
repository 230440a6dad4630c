"""Commands that use a bundle, or tell the shape of what is stored."""

from __future__ import annotations

import argparse
import codecs
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.escape import for_terminal, lines_for_terminal

if TYPE_CHECKING:
    from optimize.bundle.manifest import LabelSet
    from optimize.bundle.texts import Text

# Arguments that may be a file, and something else.
FILES_TOO = ("recipe", "data", "checkpoint", "baseline", "python", "pythons")


def schema(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of a stored record."""
    print(json.dumps(_schema_of(arguments.record), indent=1, sort_keys=True))
    return 0


def _schema_of(record: str) -> dict[str, Any]:
    if record == "report":
        from optimize.judge.records import Report

        return Report.model_json_schema()
    if record == "recipe":
        from optimize.settings.recipe import Settings

        return Settings.model_json_schema()
    import msgspec

    from optimize.bundle.manifest import KitManifest, Manifest

    schema = msgspec.json.schema({"bundle": Manifest, "kit": KitManifest}[record])
    for definition in schema["$defs"].values():
        # Python 3.13 dedents docstrings, those before do not.
        definition["description"] = inspect.cleandoc(definition["description"])
    return schema


def completion(arguments: argparse.Namespace) -> int:
    """Print a script for a shell, which completes commands and options."""
    import shtab

    from optimize.cli.arguments import build_parser
    from optimize.cli.commands import RUNNERS

    parser = build_parser(RUNNERS)
    _complete_files(parser)
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Have a shell offer files where one is asked for."""
    import shtab

    for action in parser._actions:  # argparse has no other way to them
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _complete_files(each)
        elif action.type is Path or action.dest in FILES_TOO:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's own


def predict(arguments: argparse.Namespace) -> int:
    """Label texts."""
    with _labeller(arguments) as (label_of, pairs):
        return _label_all(arguments.texts, label_of, pairs=pairs, as_json=arguments.json)


@contextmanager
def _labeller(arguments: argparse.Namespace) -> Iterator[tuple[Callable[[Text], LabelSet], bool]]:
    """What labels one text, here or in a process with limits; and whether it takes pairs."""
    if arguments.untrusted or arguments.timeout is not None:
        from optimize.bundle.guard import TIMEOUT_S, guarded

        with guarded(arguments.bundle, timeout_s=arguments.timeout or TIMEOUT_S) as guard:
            yield guard.predict, guard.text_pair
        return
    from optimize.bundle.classifier import Classifier

    classifier = Classifier(arguments.bundle)
    # One by one, as the bundle was judged: a batch shares its INT8 scales.
    yield lambda text: classifier.predict_sets([text])[0], classifier.manifest.text_pair


def _label_all(
    texts: Sequence[str],
    label_of: Callable[[Text], LabelSet],
    *,
    pairs: bool,
    as_json: bool,
) -> int:
    from optimize.bundle.guard import GuardError

    code = 0
    for place, given in _texts_to_predict(texts):
        try:
            text = given.decode("utf-8") if isinstance(given, bytes) else given
            found = label_of(_pair_of(text) if pairs else text)
        except GuardError:
            raise
        except ValueError as error:  # not UTF-8, half a character, or no pair
            # The other lines are still answered.
            print(lines_for_terminal(f"optimize: {place}: {error}"), file=sys.stderr)
            code = 1
            continue
        if as_json:
            answer = dict(zip(found.labels, found.probabilities, strict=True))
            print(json.dumps({"text": text, "labels": answer}), flush=True)
            continue
        labels = ", ".join(found.labels) or "none"
        probabilities = ", ".join(f"{each:.4f}" for each in found.probabilities)
        # A tab of the text parts a pair; one of a label parts nothing.
        cells = [labels, probabilities, *text.split("\t")]
        print("\t".join(map(for_terminal, cells)), flush=True)
    return code


def _pair_of(text: str) -> tuple[str, str]:
    """The two texts of a line.

    Raises:
        ValueError: there are not two.
    """
    first, tab, second = text.partition("\t")
    if not tab:
        raise ValueError("this bundle takes pairs: write two texts with a tab between them")
    return first, second


def _texts_to_predict(given: Sequence[str]) -> Iterator[tuple[str, str | bytes]]:
    """Each text with its place: the arguments, or the lines of standard input as bytes."""
    if given:
        yield from ((f"text {number}", text) for number, text in enumerate(given, start=1))
        return
    for number, line in enumerate(getattr(sys.stdin, "buffer", sys.stdin), start=1):
        content = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
        if number == 1:
            content = content.removeprefix(codecs.BOM_UTF8)
        content = content.rstrip(b"\r\n")
        if content.strip():
            yield f"line {number}", content
