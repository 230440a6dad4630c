"""A model card in the Hub's format: what a bundle is, how it was judged, and what it is not for."""

from __future__ import annotations

import json

from optimize.bundle.manifest import Manifest
from optimize.bundle.usage import UNGUARDED, usage
from optimize.escape import for_markdown
from optimize.judge.records import Report, Scores
from optimize.judge.reports.breakdown import pair_of
from optimize.judge.reports.page import headline, sentence
from optimize.judge.reports.tables import gate_table

SHOWN_LABELS = 40


def hub_card(manifest: Manifest, name: str, report: Report | None, variant: str) -> str:
    """The card: metadata first (Hub documentation, "Model Cards"), then words.

    Args:
        manifest: the bundle's.
        name: ``OWNER/NAME`` of the repository.
        report: the run that judged this very bundle, if there is one.
        variant: its name there.
    """
    scores = None if report is None else report.scores.get(report.split, {}).get(variant)
    parts = [_metadata(manifest, name, report, scores), f"# {for_markdown(name)}", ""]
    kind = "INT8" if manifest.quantization else "fp32"
    labels = ", ".join(f"“{for_markdown(each)}”" for each in manifest.labels[:SHOWN_LABELS])
    more = len(manifest.labels) - SHOWN_LABELS
    labels += f" and {more} more" if more > 0 else ""
    parts += [
        f"A text classifier of {len(manifest.labels)} labels for ONNX Runtime on CPU, {kind}, "
        f"{manifest.size_bytes / 1e6:.1f} MB.", "",
        "```python", "from optimize import Classifier", "",
        f'classifier = Classifier("{name}", revision="…")  # pin a commit',
        usage(manifest), "```", "",
        _what_plain_libraries_leave_out(manifest), "",
    ]  # fmt: skip
    parts += ["## What it is for", "", *_intended(manifest), ""]
    if report is not None:
        parts += ["## How it was judged", "", *_judged(report, variant), ""]
    parts += ["## Limits", "", *_limits(manifest), "", "## Labels", "", f"{labels}.", ""]
    parts += ["## How it was made", "", *_made(manifest)]
    return "\n".join(parts) + "\n"


def _metadata(manifest: Manifest, name: str, report: Report | None, scores: Scores | None) -> str:
    """YAML; JSON strings are YAML too, so that no name of others can break out."""
    lines = [
        "---", "library_name: optimize", "pipeline_tag: text-classification", "tags:",
        "- onnx", "- onnxruntime", "- text-classification",
    ]  # fmt: skip
    if manifest.quantization:
        lines.append("- int8")
    if report is not None and scores is not None:
        data = json.dumps(f"{report.recipe}, {report.split} split, {scores.examples} texts")
        lines += [
            "model-index:", f"- name: {json.dumps(name)}", "  results:",
            "  - task: {type: text-classification}",
            f"    dataset: {{name: {data}, type: {json.dumps(report.recipe)}}}",
            "    metrics:",
            f"    - {{type: accuracy, value: {scores.accuracy:.4f}}}",
            f"    - {{type: f1, name: macro F1, value: {scores.macro_f1:.4f}}}",
        ]  # fmt: skip
        if scores.micro_f1 is not None:
            lines.append(f"    - {{type: f1, name: micro F1, value: {scores.micro_f1:.4f}}}")
    return "\n".join([*lines, "---", ""])


def _what_plain_libraries_leave_out(manifest: Manifest) -> str:
    rule = manifest.out_of_scope
    student = manifest.recipe.get("student")
    if isinstance(student, dict) and student.get("shape") == "static":
        return "Other libraries do not know its type: `optimize` alone loads it."
    bias = f" and a bias of {rule.bias:+.3g} for “{for_markdown(rule.label)}”" if rule else ""
    return (
        "`optimum` and `transformers.pipeline` load it too, and leave out what the manifest adds "
        f"to the logits: a temperature of {manifest.temperature:.3g}{bias}"
        + (", and its thresholds." if manifest.thresholds else ".")
        + (UNGUARDED if manifest.quantization else "")
    )


def _intended(manifest: Manifest) -> list[str]:
    what = "pairs of texts" if manifest.text_pair else "texts"
    several = "all of its labels that hold" if manifest.multi_label else "one of its labels"
    return [
        f"It gives {what} like those that it learned from {several}. It is not for texts of "
        "another language or subject, and no figure here says how it answers those.",
    ]


def _judged(report: Report, variant: str) -> list[str]:
    gates = [result for result in report.gates if result.candidate == variant]
    pair = pair_of(report)
    if not gates:
        told = [f"No gate judged this variant, {for_markdown(variant)}.", ""]
    elif pair is None or pair.candidate != variant:
        passed = sum(result.verdict == "pass" for result in gates)
        told = [f"{passed} of {len(gates)} gates on this variant passed.", ""]
    else:
        told = [f"{for_markdown(headline(report))}. {for_markdown(sentence(report, pair))}", ""]
    scores = report.scores.get(report.split, {}).get(variant)
    if scores is not None:
        name, share, interval = scores.headline
        low, high = interval.low or 0.0, interval.high or 0.0
        told += [
            f"{name[0].upper()}{name[1:]} on {for_markdown(report.split)}: {100 * share:.2f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}], macro F1 {100 * scores.macro_f1:.2f} %, "
            f"calibration error {scores.calibration_error:.3f}.", "",
        ]  # fmt: skip
    if not gates:
        return told
    header, rows = gate_table(report.model_copy(update={"gates": tuple(gates)}))
    told += [f"| {' | '.join(header)} |", "| --- | --- | --- | --- | --- |"]
    told += [f"| {' | '.join(map(for_markdown, row))} |" for row in rows]
    return told


def _limits(manifest: Manifest) -> list[str]:
    rule = manifest.out_of_scope
    if manifest.multi_label:
        outside = "- A text may be given none of its labels: then none is sure enough."
    elif rule:
        outside = (
            f"- Texts that are none of its business are answered “{for_markdown(rule.label)}”, "
            "where it sees that they are."
        )
    else:
        outside = (
            "- It answers one of its labels to every text, also where none is right: look at the "
            "probability."
        )
    told = [outside, f"- Inputs beyond {manifest.max_length} tokens are cut."]
    if manifest.quantization:
        told.append(
            "- In batches an INT8 answer can change with its neighbours; it is judged one by one."
        )
    return told


def _made(manifest: Manifest) -> list[str]:
    inputs = [f"- {for_markdown(name)}: `{digest}`" for name, digest in manifest.inputs.items()]
    libraries = ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())
    teacher = manifest.recipe.get("teacher")
    taught = teacher.get("checkpoint") if isinstance(teacher, dict) else None
    return [
        *([f"- its teacher: {for_markdown(str(taught))}"] if taught else []),
        *inputs,
        f"- with {for_markdown(libraries)}" if libraries else "- elsewhere, and adopted",
        "- every file's digest and the whole recipe are in `manifest.json`",
    ]
