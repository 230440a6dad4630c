"""What stands at the end of each command's help: an example, and its exit codes."""

from __future__ import annotations

EXAMPLES = {
    "run": "optimize run --quick --recipe recipe.toml --out report",
    "build": "optimize build --recipe recipe.toml --out kit",
    "adopt": "optimize adopt exported-by-optimum --out bundle",
    "cache": "optimize cache --older-than 30 --keep-kits",
    "tune": "optimize tune --recipe recipe.toml --set tune.trials=40 --out tuned.toml",
    "search": "optimize search --recipe recipe.toml --minutes 60 --out search",
    "sensitivity": "optimize sensitivity --recipe recipe.toml --until 0.2",
    "init": "optimize init texts.csv bert-base-uncased --minutes 30",
    "check": "optimize check --recipe recipe.toml",
    "report": "optimize report report/report.json --html report.html",
    "compare": "optimize compare matrix --out matrix-report",
    "duet": "optimize duet kit --python old/bin/python --python new/bin/python",
    "baseline": "optimize baseline save report --out baseline.json",
    "baseline save": "optimize baseline save --runs 5 --kit kit --out baseline.json",
    "schema": "optimize schema report > report.schema.json",
    "push": "optimize push kit/student-int8 you/your-classifier --report report/report.json",
    "doctor": "optimize doctor --seconds 10",
    "predict": 'optimize predict kit/student-int8 "where is my parcel"',
    "completion": "optimize completion bash > ~/.local/share/bash-completion/completions/optimize",
}
VERDICT = "exit codes: 0 every gate passes, 1 one fails or nothing could be judged, 6 undecided"
PLAIN = "exit codes: 0 done, 1 refused, in one line that says why; 2 wrong usage"
DECIDING = frozenset({"run", "report", "compare", "duet"})


def epilog(command: str) -> str:
    """The end of a command's help."""
    codes = VERDICT if command in DECIDING else PLAIN
    return f"example:\n  {EXAMPLES[command]}\n\n{codes}"
