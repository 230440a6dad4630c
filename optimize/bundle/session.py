"""An inference session of a model that asks for nothing a bundle may not ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimize.bundle.folder import MODEL_NAME, BundleError
from optimize.bundle.onnx_header import OnnxFacts, OnnxFileError, read_facts
from optimize.machine import multiplies_u8s8_exactly

# The onnxruntime that first had an operator set, or a version of the file format (tried).
FIRST_WITH_OPSET = {21: (1, 18), 22: (1, 21), 23: (1, 23), 25: (1, 24)}
FIRST_WITH_IR = {10: (1, 18), 11: (1, 23), 13: (1, 24)}
# Where a model read from memory keeps its external tensors (onnxruntime's session options).
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
# Graph rewrites whose fused kernel is slower on the CPU than what it replaces.
SLOW_FUSIONS = ("SkipLayerNormFusion", "BiasSkipLayerNormFusion")


def checked_facts(model: bytes, folder: Path) -> OnnxFacts:
    """What the model asks for, where that is nothing that a bundle may not ask for.

    Raises:
        BundleError: it is no ONNX model, needs a library of custom operators, or reads its tensors
            from other files, which no digest here vouches for.
    """
    path = folder / MODEL_NAME
    try:
        facts = read_facts(model)
    except OnnxFileError as error:
        raise BundleError(f"{path} is not an ONNX model: {error}") from error
    if facts.custom_operators:
        raise BundleError(
            f"{path} needs the custom operators {', '.join(facts.custom_operators)}; a bundle runs "
            "on onnxruntime's own. Export it without them."
        )
    if facts.external:
        raise BundleError(
            f"{path} keeps tensors in {', '.join(sorted(facts.external))}; a bundle has them all "
            "in its model. Save it without external data."
        )
    return facts


def open_session(
    model: bytes, threads: int, folder: Path, facts: OnnxFacts, *, guarded: bool | None = None
) -> Any:
    """An inference session on the CPU, as :func:`session_options` says.

    Raises:
        BundleError: this onnxruntime cannot load the model; where that is too old, says which can.
    """
    import onnxruntime as ort

    options = session_options(threads, guarded=guarded)
    try:
        # Were a tensor kept elsewhere after all, it would be looked for below a file, in vain.
        options.add_session_config_entry(EXTERNAL_FOLDER, str(folder / MODEL_NAME / "nothing"))
        return ort.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(SLOW_FUSIONS),
        )
    except Exception as error:  # onnxruntime's exceptions have no public base class
        raise BundleError(
            f"onnxruntime {ort.__version__} cannot load {folder / MODEL_NAME}: "
            f"{_too_new(facts, ort.__version__) or error}"
        ) from error


def session_options(threads: int, *, guarded: bool | None = None) -> Any:
    """How every session runs.

    Args:
        threads: 0 leaves the count to onnxruntime.
        guarded: whether to ask for 8-bit kernels that cannot saturate; where this CPU needs them,
            when ``None``.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    if not multiplies_u8s8_exactly() if guarded is None else guarded:
        # Without VNNI, U8S8 kernels saturate; this keeps one answer on every x86-64 CPU
        # (onnxruntime issues 5849, 6004). With VNNI it would only take the kernels away that
        # use it: 2.9 times the time at batch 32 here.
        options.add_session_config_entry("session.x64quantprecision", "1")
    # An idle session must not burn the cores that its neighbours are measured on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def oldest_onnxruntime(facts: OnnxFacts) -> tuple[int, int] | None:
    """The first minor version that loads the model; ``None`` where opset or IR are unknown here."""
    asked = (
        (facts.opsets.get("", 0), FIRST_WITH_OPSET),
        (facts.ir_version, FIRST_WITH_IR),
    )
    needed = [
        next((minor for known, minor in first.items() if value <= known), None)
        for value, first in asked
    ]
    found = [minor for minor in needed if minor is not None]
    return max(found) if len(found) == len(needed) else None


def _too_new(facts: OnnxFacts, version: str) -> str | None:
    """In words, why this onnxruntime is too old for the model, if that is so."""
    ours = tuple(int(part) for part in version.split(".")[:2])
    opset = facts.opsets.get("", 0)
    for what, value, first in (
        ("opset", opset, FIRST_WITH_OPSET),
        ("IR version", facts.ir_version, FIRST_WITH_IR),
    ):
        needed = next((minor for known, minor in first.items() if value <= known), None)
        if needed is None:
            return (
                f"{what} {value} is newer than this version of optimize knows; this is "
                f"{version}. Upgrade onnxruntime, or export with a lower one"
            )
        if needed > ours:
            return (
                f"{what} {value} needs onnxruntime ≥ {needed[0]}.{needed[1]}; this is {version}. "
                "Upgrade it, or build with a lower export.opset or export.ir_version"
            )
    return None
