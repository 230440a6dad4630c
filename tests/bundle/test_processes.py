"""A classifier in other processes, and what it takes for texts."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile

import pytest

from optimize import Classifier

FORKED = """
import os, sys
from optimize import Classifier
classifier = Classifier(sys.argv[1], threads=2)
classifier.predict(["please track my order"] * 8, batch_size=4)

def answer():
    print(classifier.predict(["please track my order"])[0].label, flush=True)

def idle():
    pass

def forked(code, body):
    child = os.fork()
    if not child:
        body()
        sys.exit(code)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)

def worker():
    # Of a server that forks once more: its session was opened after the first fork.
    classifier.predict(["please track my order"])
    forked(5, answer)
    forked(5, idle)

forked(3, answer)
forked(3, idle)
answer()
forked(4, worker)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_answers_and_ends(tiny_kit):
    """As in a server that loads before it forks: neither call nor end waits for ever."""
    bundle = tiny_kit / "student-int8"
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(bundle)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    label = Classifier(bundle).predict(["please track my order"])[0].label
    assert done.stdout.split() == [label, "3", "3", label, label, "5", "5", "4"]


def test_it_needs_no_place_to_write(tiny_kit, monkeypatch):
    """As in a container whose root is read-only and that has no folder for temporary files."""

    def none(*_, **__):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert Classifier(tiny_kit / "student-int8", threads=1).predict(["refund"])


def test_it_is_pickled_by_its_path(tiny_kit):
    classifier = Classifier(tiny_kit / "student-int8", threads=1)
    content = pickle.dumps(classifier)
    assert len(content) < 1000
    texts = ["cancel my order", "where is it"]
    assert pickle.loads(content).predict(texts) == classifier.predict(texts)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(classifier.predict, [texts]) == [classifier.predict(texts)]


def test_any_iterable_is_taken(tiny_kit):
    classifier = Classifier(tiny_kit / "student-int8")
    texts = ["cancel my order", "where is it"]
    expected = classifier.predict(texts)
    for given in (iter(texts), tuple(texts), (text for text in texts), dict.fromkeys(texts)):
        assert classifier.predict(given) == expected


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        ("one", TypeError, "texts is one string"),
        (b"one", TypeError, "texts is one string"),
        (["a", ["b", "c"]], TypeError, r"texts\[1\] is list, not a string"),
        ([("a", "b")], TypeError, r"texts\[0\] is tuple"),
        (["a", None], TypeError, r"texts\[1\] is NoneType"),
        (["a", 5], TypeError, r"texts\[1\] is int"),
        (["a", b"b"], TypeError, r"texts\[1\] is bytes"),
        (["a", "b\ud800"], ValueError, r"texts\[1\]: character 1 is half of a surrogate pair"),
    ],
)
def test_what_is_no_text_is_refused_by_its_position(tiny_kit, texts, error, words):
    classifier = Classifier(tiny_kit / "student-int8")
    for method in (classifier.predict, classifier.predict_proba, classifier.logits):
        with pytest.raises(error, match=words):
            method(texts)
