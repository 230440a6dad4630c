"""The fuzzer's corpus, replayed without it: every input is accepted or refused in words."""

from pathlib import Path

import pytest
from fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.mark.torch
@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_accepted_or_refused(name, tmp_path):
    inputs = sorted((CORPUS / name).iterdir())
    assert len(inputs) >= 3, f"tests/corpus/{name} has no seeds"
    outcomes = {TARGETS[name](path.read_bytes(), tmp_path) for path in inputs}
    assert outcomes == {True, False} or name in {"escaped", "worker", "kit"}, outcomes
