"""How a bundle is asked, in a line of Python for its card."""

from __future__ import annotations

from optimize.bundle.manifest import Manifest

UNGUARDED = (
    " On a CPU without VNNI their 8-bit products can saturate, and they answer otherwise: give "
    "them session options with `session.x64quantprecision` = 1."
)


def usage(manifest: Manifest) -> str:
    """The line: one text or a pair of them, one label or several."""
    text = '("first text", "second text")' if manifest.text_pair else '"a text"'
    if manifest.multi_label:
        return f"classifier.predict_sets([{text}])  # [(labels, probabilities)]"
    return f"classifier.predict([{text}])  # [(label, probability)]"
