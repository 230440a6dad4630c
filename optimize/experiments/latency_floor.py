"""Where the time of one answer goes, and what this machine could not do it in less than.

    python -m optimize.experiments.latency_floor KIT/student-int8 --kit KIT [--threads 1]

Texts of the kit's validation split are answered one at a time. The parts are tokenizer, session,
and the rest; within the session, operators by ONNX Runtime's profile. The floor is made of what was
measured here and now: the bytes of all weights once, at the speed of reading as many; the products
with stored weights, at the speed of a large integer product; and every node at the time of one that
does nothing. Medians over the calls.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from optimize.bundle.classifier import Classifier
from optimize.bundle.folder import MODEL_NAME
from optimize.bundle.session import SLOW_FUSIONS, session_options
from optimize.judge.kit import read_kit

CALLS, TEXTS = 300, 64
NOTHINGS = 200
# Of the large integer product.
ROWS, INNER = 256, 1024


@dataclass
class Profile:
    """One text's way through the session.

    Attributes:
        seconds: by operator, of all its nodes.
        nodes: by operator.
        products: multiplications with stored weights.
        weight_bytes: of the weights that these read, but for nodes that onnxruntime renames.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    products: int = 0
    weight_bytes: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--kit", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calls", type=int, default=CALLS)
    asked = parser.parse_args(argv)
    texts = list(read_kit(asked.kit).examples("validation").texts[:TEXTS])
    for line in report(asked.bundle, texts, asked.threads, asked.calls):
        sys.stdout.write(f"{line}\n")
    return 0


def report(bundle: Path, texts: Sequence[str], threads: int, calls: int) -> Iterable[str]:
    """The lines to print.

    Args:
        bundle: folder of an ONNX bundle.
        texts: those that are answered, in turn.
        threads: of the session.
        calls: how many answers are timed.
    """
    classifier = Classifier(bundle, threads=threads)
    parts = split_of(classifier, texts, calls)
    whole = sum(parts.values())
    yield f"one answer: {1e3 * whole:.3f} ms, {threads} thread{'s' if threads > 1 else ''}\n"
    yield "| part | ms | share |\n| --- | --- | --- |"
    for name, seconds in parts.items():
        yield f"| {name} | {1e3 * seconds:.3f} | {100 * seconds / whole:.0f} % |"
    profile = profile_of(classifier, bundle, texts, threads, calls)
    yield "\n| operator | nodes | ms |\n| --- | --- | --- |"
    for name, seconds in sorted(profile.seconds.items(), key=lambda each: -each[1]):
        yield f"| {name} | {profile.nodes[name]} | {1e3 * seconds:.3f} |"
    yield ""
    yield from _floor(profile, threads, parts["session"])


def split_of(classifier: Classifier, texts: Sequence[str], calls: int) -> dict[str, float]:
    """Median seconds of the parts of one answer."""
    taken: dict[str, list[float]] = {"tokenizer": [], "session": [], "checks and softmax": []}
    for call in range(calls):
        text = texts[call % len(texts)]
        begin = time.perf_counter()
        ((_, batch),) = classifier.encoder.batches([text], 1)
        tokenised = time.perf_counter()
        classifier._answer(batch)
        answered = time.perf_counter()
        classifier.predict_proba([text])
        done = time.perf_counter()
        taken["tokenizer"].append(tokenised - begin)
        taken["session"].append(answered - tokenised)
        taken["checks and softmax"].append(max(0.0, done - answered - (answered - begin)))
    return {name: statistics.median(values) for name, values in taken.items()}


def profile_of(
    classifier: Classifier, bundle: Path, texts: Sequence[str], threads: int, calls: int
) -> Profile:
    """What ONNX Runtime's own profile says of one call: means over the calls."""
    with TemporaryDirectory() as work:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(work, "profile"))
        session: Any = ort.InferenceSession(
            str(bundle / MODEL_NAME),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(SLOW_FUSIONS),
        )
        wanted = {node.name for node in session.get_inputs()}
        for call in range(calls):
            ((_, batch),) = classifier.encoder.batches([texts[call % len(texts)]], 1)
            session.run(None, {name: array for name, array in batch.items() if name in wanted})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    found = Profile()
    weights = _weights(bundle)
    read: dict[str, int] = {}
    for event in events:
        name = str(event["name"]).removesuffix("_kernel_time")
        if event.get("cat") != "Node" or name == event["name"]:
            continue
        kind = event["args"]["op_name"]
        found.seconds[kind] = found.seconds.get(kind, 0.0) + 1e-6 * event["dur"] / calls
        found.nodes[kind] = found.nodes.get(kind, 0) + 1
        if name in weights:
            rows = math.prod(next(iter(event["args"]["input_type_shape"][0].values()))[:-1])
            found.products += rows * weights[name].size
            read[name] = weights[name].nbytes
    found.nodes = {kind: round(count / calls) for kind, count in found.nodes.items()}
    found.products //= calls
    found.weight_bytes = sum(read.values())
    return found


def _weights(bundle: Path) -> dict[str, NDArray[Any]]:
    """Stored matrices by the name of the node that multiplies with them.

    A profile does not tell their shapes, since onnxruntime packs them beforehand.
    """
    graph = onnx.load(str(bundle / MODEL_NAME)).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    return {
        node.name: numpy_helper.to_array(stored[node.input[1]])
        for node in graph.node
        if any(word in node.op_type for word in ("MatMul", "Gemm", "Attention"))
        and node.input[1] in stored
        and len(stored[node.input[1]].dims) == 2
    }


def _floor(profile: Profile, threads: int, session: float) -> Iterable[str]:
    read = profile.weight_bytes / _read_rate(max(profile.weight_bytes, 1 << 16))
    multiplied = profile.products / _product_rate(threads)
    nodes = sum(profile.nodes.values())
    fixed = nodes * _node_cost(threads)
    kernels = sum(profile.seconds.values())
    yield "| floor | ms |\n| --- | --- |"
    yield f"| {profile.weight_bytes / 1e6:.2f} MB of weights, read once | {1e3 * read:.3f} |"
    yield f"| {profile.products / 1e6:.1f} million products in INT8 | {1e3 * multiplied:.3f} |"
    yield f"| {nodes} nodes that do nothing | {1e3 * fixed:.3f} |"
    least = max(read, multiplied) + fixed
    yield f"| the larger of the first two, and the third | {1e3 * least:.3f} |"
    yield f"| all nodes, by the profile | {1e3 * kernels:.3f} |"
    yield f"| the session, undisturbed by a profile | {1e3 * session:.3f} |"


def _read_rate(size: int) -> float:
    """Bytes a second of a sum over so many, by one thread; a copy would write as many too."""
    source = np.ones(size // 8, dtype=np.uint64)
    return source.nbytes / _median(source.sum)


def _product_rate(threads: int) -> float:
    """Multiplications a second of a large product in INT8."""
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 127, (INNER, INNER), dtype=np.int8)
    tensors = [
        numpy_helper.from_array(weights, "b"),
        numpy_helper.from_array(np.array(0.01, dtype=np.float32), "scale"),
    ]
    node = helper.make_node(
        "DynamicQuantizeMatMul", ["a", "b", "scale"], ["y"], domain="com.microsoft"
    )
    run = _runner([node], tensors, (ROWS, INNER), threads)
    return ROWS * INNER * INNER / _median(run)


def _node_cost(threads: int) -> float:
    """Seconds of a node that has one value to look at, beyond those of the session's call."""
    chain = [helper.make_node("Sin", [f"v{n}"], [f"v{n + 1}"]) for n in range(NOTHINGS)]
    chain[0].input[0], chain[-1].output[0] = "a", "y"
    one = [helper.make_node("Sin", ["a"], ["y"])]
    long, short = (_median(_runner(nodes, [], (1, 1), threads)) for nodes in (chain, one))
    return max(0.0, long - short) / (NOTHINGS - 1)


def _runner(
    nodes: list[Any], tensors: list[Any], shape: tuple[int, int], threads: int
) -> Callable[[], object]:
    graph = helper.make_graph(
        nodes,
        "rate",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = ort.InferenceSession(
        onnx.ModelProto.SerializeToString(model),
        session_options(threads),
        providers=["CPUExecutionProvider"],
    )
    feed: dict[str, NDArray[np.float32]] = {"a": np.ones(shape, dtype=np.float32)}
    return lambda: session.run(None, feed)


def _median(call: Callable[[], object], times: int = 50) -> float:
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[times // 5 :])


if __name__ == "__main__":
    sys.exit(main())
