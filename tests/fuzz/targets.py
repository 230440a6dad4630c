"""What is fuzzed: each target takes any bytes, and accepts them or refuses them as documented.

A target returns whether it accepted. Whatever else comes out of it is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from optimize import settings
from optimize.bundle.folder import MODEL_NAME, BundleError, read_manifest
from optimize.bundle.manifest import MANIFEST_NAME, StoredError
from optimize.bundle.onnx_header import OnnxFileError, read_facts
from optimize.data.load import load
from optimize.data.splits import SPLITS, DataError
from optimize.judge.kit import KitError, read_kit
from optimize.judge.reports.render import markdown, svg, terminal
from optimize.judge.stored import AGAIN, check_verdicts, read_report
from optimize.judge.workers.process import WorkerError, WorkerProcess, WorkerSpec
from optimize.settings.data import DataSettings
from optimize.settings.load import SettingsError

Target = Callable[[bytes, Path], bool]


def onnx_header(content: bytes, folder: Path) -> bool:
    """Nothing that protobuf reads is hidden from the walk: both say the same, or it is refused."""
    try:
        facts = read_facts(content)
    except OnnxFileError:
        return False
    import onnx
    from google.protobuf.message import DecodeError

    try:
        whole = onnx.ModelProto.FromString(content)
    except DecodeError:
        return True  # onnxruntime will refuse it
    assert facts.ir_version == whole.ir_version, "another IR version"
    assert facts.opsets == {entry.domain: entry.version for entry in whole.opset_import}, "opsets"
    nodes = set(_operators(whole.graph)) | {
        name for function in whole.functions for name in _operators(function)
    }
    assert nodes <= facts.operators, f"hidden operators {nodes - facts.operators}"
    outside = {t for t in _tensors(whole) if t.data_location == onnx.TensorProto.EXTERNAL}
    assert facts.external or not outside, "hidden external data"
    return True


def _operators(graph):
    from onnx import AttributeProto

    for node in graph.node:
        yield f"{node.domain}:{node.op_type}" if node.domain else node.op_type
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
                yield from _operators(attribute.g)
            for inner in attribute.graphs:
                yield from _operators(inner)


class _Tensor:
    """A tensor that can be put into a set."""

    def __init__(self, tensor):
        self.data_location = tensor.data_location


def _tensors(message):
    import onnx
    from google.protobuf.message import Message

    if isinstance(message, onnx.TensorProto):
        yield _Tensor(message)
    for described, value in message.ListFields():
        if described.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _tensors(inner)


def manifest(content: bytes, folder: Path) -> bool:
    """A bundle's manifest."""
    (folder / MANIFEST_NAME).write_bytes(content)
    (folder / MODEL_NAME).write_bytes(b"")
    try:
        read_manifest(folder)
    except BundleError:
        return False
    return True


def kit(content: bytes, folder: Path) -> bool:
    """A kit's manifest, in a folder that holds nothing else."""
    (folder / "kit.json").write_bytes(content)
    try:
        read_kit(folder)
    except KitError:
        return False
    return True


def report(content: bytes, folder: Path) -> bool:
    """A stored report: read, decided again, and drawn in every form."""
    path = folder / "report.json"
    path.write_bytes(content)
    try:
        found = read_report(path)
    except StoredError as error:
        assert AGAIN in str(error) or "is not a report" in str(error)
        return False
    drawn = [terminal(found, 100, colour=False), markdown(found), svg(found)]
    assert all("\x1b]" not in text for text in drawn), "an escape sequence of the report's own"
    with suppress(StoredError):
        check_verdicts(found, "it")
    return True


def recipe(content: bytes, folder: Path) -> bool:
    """A recipe file, as ``--recipe`` reads it."""
    path = folder / "recipe.toml"
    path.write_bytes(content)
    try:
        settings.load(str(path), folder)
    except SettingsError:
        return False
    return True


def _table(suffix: str) -> Target:
    def target(content: bytes, folder: Path) -> bool:
        path = folder / f"data.{suffix}"
        path.write_bytes(content)
        try:
            splits = load(
                DataSettings(source=str(path), validation=0.2, test=0.2, leakage_warn_share=1.0)
            )
        except DataError as error:
            assert path.name in str(error) or "label" in str(error) or "split" in str(error)
            return False
        assert all(text.strip() for split in SPLITS for text in splits[split].texts)
        return True

    target.__doc__ = f"A data file of the kind {suffix}."
    return target


def worker(content: bytes, folder: Path) -> bool:
    """What a worker says to its parent."""
    path = folder / "said"
    path.write_bytes(content)
    spec = WorkerSpec("fuzzed", folder, 1, ("cat", str(path)))
    try:
        with WorkerProcess(spec, "text") as process:
            process.ask("block", name="w", offset=0, rows=1, calls=1)
    except WorkerError:
        return False
    return True


def escaped(content: bytes, folder: Path) -> bool:
    """Any text in every form of output."""
    from optimize.escape import for_command, for_markdown, lines_for_terminal

    text = content.decode("utf-8", "surrogateescape")
    for form in (lines_for_terminal, for_markdown, for_command):
        shown = form(text)
        acting = [c for c in shown if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)]
        assert not acting, f"{form.__name__} leaves {acting}"
    return True


TARGETS: dict[str, Target] = {
    "onnx_header": onnx_header,
    "manifest": manifest,
    "kit": kit,
    "report": report,
    "recipe": recipe,
    "csv": _table("csv"),
    "tsv": _table("tsv"),
    "jsonl": _table("jsonl"),
    "json": _table("json"),
    "worker": worker,
    "escaped": escaped,
}
