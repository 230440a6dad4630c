"""The model card of a bundle."""

from __future__ import annotations

from optimize.bundle.manifest import Manifest
from optimize.bundle.usage import UNGUARDED, usage
from optimize.escape import for_markdown

SHOWN_LABELS = 12


def model_card(manifest: Manifest) -> str:
    """What one who finds the bundle needs to know, as Markdown.

    It holds no scores: those are the report's, measured on the machine that judged.
    """
    labels = ", ".join(f"“{for_markdown(name)}”" for name in manifest.labels[:SHOWN_LABELS])
    if len(manifest.labels) > SHOWN_LABELS:
        labels += f" and {len(manifest.labels) - SHOWN_LABELS} more"
    rule = manifest.out_of_scope
    bias = f", bias {rule.bias:+.3g} of the out-of-scope label" if rule and rule.bias else ""
    inputs = "\n".join(f"- {name}: `{digest}`" for name, digest in manifest.inputs.items())
    libraries = ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())
    return f"""# Text classifier, INT8, {len(manifest.labels)} labels

Labels: {labels}.

```python
from optimize import Classifier

classifier = Classifier("this folder")
{usage(manifest)}
```

{_others(manifest, bias)}

- {manifest.parameters:,} parameters, quantized by `{manifest.quantization}`;
  {manifest.size_bytes:,} bytes
- inputs up to {manifest.max_length} tokens; longer texts are cut
- ONNX opset {manifest.opset}, IR version {manifest.ir_version}
- under dynamic INT8 an answer can change with its batch; this model is judged at batch size 1

Made from (SHA-256):

{inputs}

Made with {libraries}. The recipe and every file's digest are in `manifest.json`.
"""


def _others(manifest: Manifest, bias: str) -> str:
    """What other libraries make of the bundle."""
    student = manifest.recipe.get("student")
    if isinstance(student, dict) and student.get("shape") == "static":
        return "Other libraries do not know its type: `optimize` alone loads it."
    return (
        "`optimum` (`ORTModelForSequenceClassification`) and `transformers.pipeline` load it too. "
        "They leave\nout what the manifest adds to the logits: temperature "
        f"{manifest.temperature:.3g}{bias}"
        + (", thresholds." if manifest.thresholds else ".")
        + (UNGUARDED if manifest.quantization else "")
    )
