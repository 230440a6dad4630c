"""The figure of how many test texts a margin needs, for the pages on margins.

python -m optimize.experiments.margin_figure docs/concepts/margin.svg
"""

from __future__ import annotations

import argparse
from pathlib import Path

from optimize.judge.statistics.proportions import examples_needed

MARGINS_PP = tuple(margin / 20 for margin in range(8, 101))
DISCORDANT = (0.02, 0.05, 0.10, 0.20)


def curves() -> dict[float, list[int]]:
    """Texts that each margin needs where nothing is lost, by share of texts answered unlike."""
    return {
        share: [examples_needed(margin / 100, share) or 0 for margin in MARGINS_PP]
        for share in DISCORDANT
    }


def draw(target: Path) -> None:
    """Write the figure as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    with mpl.rc_context({"svg.hashsalt": "optimize", "font.size": 11}):
        figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
        for share, needed in curves().items():
            axes.plot(MARGINS_PP, needed, label=f"{100 * share:.0f} % answered unlike")
        axes.set(
            yscale="log", xlabel="margin, percentage points", ylabel="test texts that it needs"
        )
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False)
        figure.savefig(target, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description="How many test texts a margin needs.")
    parser.add_argument("target", type=Path)
    draw(parser.parse_args().target)


if __name__ == "__main__":
    main()
