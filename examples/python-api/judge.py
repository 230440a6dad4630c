"""Builds a recipe's kit, judges it and says what one gains: the commands, as functions.

python judge.py [RECIPE] [KEY=VALUE …]
"""

import sys
from pathlib import Path

from optimize import settings
from optimize.judge.kit import read_kit
from optimize.judge.reports.breakdown import pair_of
from optimize.judge.reports.page import headline, sentence
from optimize.judge.reports.render import write_report
from optimize.judge.run import judge
from optimize.pipeline.runner import build
from optimize.telling import Teller


def main(recipe: str, *overrides: str) -> int:
    """Build and judge; returns 0 where every gate passes."""
    chosen, source = settings.load(recipe, None, overrides)
    with Teller() as tell:
        kit = read_kit(build(chosen, tell))
        report = judge(kit, chosen, source, "quick", tell)
    write_report(report, Path("report"))
    print(headline(report))
    print(sentence(report, pair_of(report)))
    for gate in report.gates:
        print(gate.verdict, gate.name, gate.measured)
    return 0 if report.verdict == "pass" else 1


if __name__ == "__main__":
    raise SystemExit(main(*(sys.argv[1:] or ["sample"])))
