"""Which texts stand for a file's."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from optimize.bundle.texts import evenly


@given(st.integers(0, 300), st.integers(1, 400))
def test_texts_are_taken_from_everywhere_once_and_in_order(there, most):
    texts = [str(number) for number in range(there)]
    chosen = [int(text) for text in evenly(texts, most)]
    assert len(chosen) == min(there, most)
    assert chosen == sorted(set(chosen))
    # No gap is wider than an even share, at either end either: a label of that many rows is met.
    edges = [-1, *chosen, there]
    widest = max(after - before for before, after in pairwise(edges))
    assert widest <= max(1, -(-there // max(1, len(chosen))))
