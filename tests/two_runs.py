"""A run of two variants held against a stored one of the same two, made by hand."""

import numpy as np

from optimize.judge.gates.control import control_of
from optimize.judge.gates.evidence import Evidence, Stored
from optimize.judge.gates.rules import decide_all
from optimize.judge.records import Fingerprint, Predictions, Report, Series, Timing, VariantFacts
from optimize.settings.load import against_baseline, parse

# Real workers, as few blocks as there can be.
FEW_BLOCKS = {
    "judge": {
        "variants": ["student-onnx", "student-int8"],
        "threads": 1,
        "quick_blocks": 4,
        "block_ms": 1.0,
        "workloads": {"typical": {"texts": 4}},
    },
    "gates": {"fidelity": {"kind": "fidelity", "min_agreement_pct": 0.0}},
}
N = 1000
LABELS = np.zeros(N, dtype=np.int64)
SETTINGS = parse(
    {
        "judge": {"workloads": {"typical": {}}, "variants": ["teacher-onnx", "student-int8"]},
        "gates": {"size": {"kind": "size", "reference": "teacher-onnx", "min_reduction_pct": 50}},
    },
    "test",
)


def series(seconds, replicates=12):
    rng = np.random.default_rng(int(seconds * 1e6))
    blocks = [tuple(seconds * np.exp(rng.normal(0, 0.01, 4))) for _ in range(replicates)]
    return Series(blocks_s=tuple(blocks), calls=1, p50_ms=1.0, p95_ms=1.0)


def answers(wrong):
    return Predictions(labels=(1,) * wrong + (0,) * (N - wrong), confidences=(1.0,) * N)


def facts(size=200, digest="student"):
    return VariantFacts(size_bytes=size, parameters=1, model_sha256=digest)


def beside(timing):
    """The same, while other processes wanted the cores."""
    disturbed = {
        workload: {
            name: each.model_copy(update={"beside_neighbours": True})
            for name, each in variants.items()
        }
        for workload, variants in timing.series.items()
    }
    return timing.model_copy(update={"series": disturbed})


def timing(seconds, baseline_s=None, startup=0.3, peak=100.0):
    timed = {"teacher-onnx": series(1.0), "student-int8": series(seconds)}
    startups, peaks = {"student-int8": (startup,) * 12}, {"student-int8": (int(peak),) * 12}
    if baseline_s is not None:
        timed["baseline"] = series(baseline_s)
        startups["baseline"], peaks["baseline"] = (0.3,) * 12, (100,) * 12
    return Timing(
        series={"typical": timed},
        batch_sizes={"typical": 1},
        startup_s=startups,
        peak_rss_bytes=peaks,
        replicates=12,
        dropped_blocks=0,
        seconds=1.0,
    )


def report(seconds=0.5, **change):
    controls = (control_of("typical", series(0.5), series(0.5), "full", 1),)
    fields = {
        "created": "then",
        "optimize_version": "0",
        "mode": "full",
        "recipe": "r",
        "settings_source": "s",
        "settings": SETTINGS.model_dump(mode="json"),
        "fingerprint": Fingerprint(
            cpu="c", isa=(), isa_class="other", cores=1, threads=1, system="s", libraries={}
        ),
        "split": "test",
        "data_digest": "d",
        "variants": {"teacher-onnx": facts(1000, "teacher"), "student-int8": facts()},
        "timing": timing(seconds),
        "controls": controls,
        "scores": {},
        "predictions": {"test": {"student-int8": answers(0)}},
        "labels": tuple(LABELS.tolist()),
        "batch_agreement": {},
        "gates": decide_all(SETTINGS.gates, evidence(seconds), ("typical",)),
    }
    return Report(**fields | change)


def evidence(seconds=0.5, *, size=200, wrong=0, stored=None, baseline_s=None, **change):
    variants = {"teacher-onnx": facts(1000, "teacher"), "student-int8": facts(size)}
    predictions = {"student-int8": answers(wrong)}
    if stored is not None or baseline_s is not None:
        variants["baseline"], predictions["baseline"] = facts(), answers(0)
    return Evidence(
        variants=variants,
        timing=timing(seconds, baseline_s, **change),
        controls={"typical": control_of("typical", series(0.5), series(0.5), "full", 1)},
        predictions=predictions,
        labels=LABELS,
        isa="other",
        mode="full",
        gate_names=("size",),
        stored=stored,
    )


def results(seen):
    gates = against_baseline(SETTINGS, stored=seen.stored is not None).gates
    decided = decide_all(gates, seen, ("typical",))
    return {result.gate: result for result in decided if result.gate.startswith("regression-")}


def alike(**change):
    return Stored(report(**change), ())
