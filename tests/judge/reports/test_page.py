"""The page of a report: what it says first, what it holds, and that no text acts in it."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from answering import ACTING, answering
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.cli import main
from optimize.judge.gates.comparisons import compared
from optimize.judge.records import BaselineFacts, LabelChange, Predictions
from optimize.judge.reports.breakdown import (
    by_label,
    changed_texts,
    confusions,
    pair_of,
    reliability,
)
from optimize.judge.reports.page import command, headline, html, sentence
from optimize.judge.stored import write_json


class Parsed(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


@pytest.fixture
def report(canned_report):
    """Two variants that differ on some texts, judged by a gate on accuracy."""
    return answering(canned_report("pass"), ("first text", "second text", "third text"))


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("pass", "Safe to ship"), ("fail", "Do not ship"), ("inconclusive", "Not decided")],
)
def test_the_verdict_comes_first(canned_report, verdict, words):
    found = canned_report(verdict)
    assert headline(found).startswith(words)
    text = Parsed(html(found)).text
    assert text.index(words) < text.index("Gates")


def test_what_is_lost_is_told_in_a_sentence(report):
    pair = pair_of(report)
    assert pair == ("teacher-torch", "student-int8")
    assert re.match(
        r"student-int8 is (no faster|.*× as fast) and (no smaller|.* % (smaller|larger)) than",
        sentence(report, pair),
    )


def test_labels_confusions_and_changes(report):
    pair = pair_of(report)
    labels = by_label(report, pair)
    assert [(each.label, each.texts, each.candidate) for each in labels] == [
        ("cancel", 2, 0.5), ("refund", 1, 1.0),
    ]  # fmt: skip
    assert labels[0].examples == (("first text", "refund"),)
    assert confusions(report, pair) == [("cancel", "refund", 1, 0)]
    changed, count = changed_texts(report, ("teacher-torch", "student-int8"), pair, 10)
    assert (count, changed[0].text, changed[0].lost) == (1, "first text", True)
    assert sum(each.texts for each in reliability(report, "student-int8")) == 3


def test_texts_of_others_do_not_act(report):
    texts = (ACTING, "second", "third")
    evil = answering(report, texts, (f"label {ACTING}", "refund"))
    evil = evil.model_copy(update={"settings_source": ACTING, "recipe": ACTING})
    page = Parsed(html(evil, [evil]))
    assert page.tags.count("script") == 1  # the page's own
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "{{ 7 * 7 }}" in page.text
    assert "\x1b" not in page.text


@settings(max_examples=40, deadline=None)
@given(text=st.text(min_size=1, max_size=60))
def test_any_text_stays_a_text(canned_report_once, text):
    page = Parsed(html(answering(canned_report_once, (text, "b", "c"), (text, f"{text}2"))))
    assert page.tags.count("script") == page.tags.count("h1") == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", page.text)


@pytest.fixture(scope="module")
def canned_report_once(request):
    from conftest import make_report

    return make_report("pass")


def test_nothing_is_fetched(report):
    page = html(report)
    assert not re.search(r"""(src|href)=|url\(|@import|https?://(?!www\.w3\.org)""", page)
    assert "default-src 'none'" in page


def test_a_million_answers_are_a_page_of_some_rows(report):
    many = answering(report, [f"text {row}" for row in range(200_000)])
    pair = pair_of(many)
    flipped = Predictions(
        labels=tuple(1 - label for label in many.labels),
        confidences=many.predictions[many.split][pair.candidate].confidences,
    )
    answers = many.predictions[many.split] | {pair.candidate: flipped}
    page = html(many.model_copy(update={"predictions": {many.split: answers}}))
    assert page.count("<tr>") < 700
    assert "200000 of 200000 texts" in page
    assert len(page) < 1_000_000


def test_history_of_several_reports(canned_report, tmp_path):
    """The newest is the page's, in whatever order they are given."""
    files = []
    for number in range(3):
        found = canned_report("pass")
        gates = tuple(gate.model_copy(update={"value": 2.0 + number}) for gate in found.gates)
        dated = {"created": f"2026-01-0{number + 1}T00:00:00", "gates": gates}
        files.append(tmp_path / f"{number}.json")
        write_json(found.model_copy(update=dated), files[-1])
    page = tmp_path / "page.html"
    assert main(["report", *map(str, reversed(files)), "--html", str(page)]) == 0
    told = page.read_text()
    assert "3 runs, the limit dashed" in told
    assert "2026-01-03" in told


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
def test_a_browser_shows_it_without_complaint(report, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html(answering(report, (ACTING, "b", "c"))))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--dump-dom", path.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Safe to ship" in done.stdout
    assert "CONSOLE" not in done.stderr


NODES = [
    {
        "name": f"node {n}",
        "operator": "MatMul",
        "divergence": n / 1e3,
        "changed": n,
        "saved_bytes": n,
    }
    for n in range(1, 25)
]


def test_what_each_node_costs_is_shown_where_it_was_measured(report, tmp_path):
    write_json(report, tmp_path / "report.json")
    nodes, page = tmp_path / "nodes.json", tmp_path / "page.html"
    evil = NODES[0] | {"name": "<script>alert(1)</script>", "divergence": 1.0}
    nodes.write_text(json.dumps({"nodes": [*NODES, evil], "exclude": None}))
    asked = ["report", str(tmp_path / "report.json"), "--sensitivity", str(nodes)]
    assert main([*asked, "--html", str(page)]) == 0
    text = Parsed(page.read_text()).text
    assert "What each node costs in INT8" in text
    assert text.index("<script>") < text.index("node 24") < text.index("node 23")
    assert "node 5\n" not in text  # of 25 the twenty dearest
    assert "5 more cost less" in text
    assert "What each node costs" not in html(report)
    assert Parsed(page.read_text()).tags.count("script") == 1


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"nodes": [{}]}', '{"nodes": [1]}', "[" * 10_000, '{"nodes": null}',
     json.dumps({"nodes": [NODES[0] | {"divergence": "1"}]}),
     json.dumps({"nodes": [NODES[0] | {"divergence": float("nan")}]}),
     json.dumps({"nodes": [NODES[0] | {"changed": True}]})],
)  # fmt: skip
def test_another_file_is_refused_with_what_writes_one(report, tmp_path, capsys, content):
    write_json(report, tmp_path / "report.json")
    (tmp_path / "nodes.json").write_text(content)
    asked = ["report", str(tmp_path / "report.json"), "--sensitivity", str(tmp_path / "nodes.json")]
    assert main([*asked, "--html", str(tmp_path / "page.html")]) == 1
    assert "is not what `optimize sensitivity --json` writes" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
    assert main(asked) == 1
    assert "give --html FILE too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "mode", "told"),
    [
        (
            "recipe front.toml, judge.threads=2, data.source=my data, x.csv", "quick",
            "optimize run --recipe front.toml --set judge.threads=2 "
            "--set 'data.source=my data, x.csv' --quick --out report",
        ),
        ("[tool.optimize] of pyproject.toml", "full", "pytest benchmarks --out report"),
        (
            'recipe r, gates.size={kind="size", max_mb=3}, judge.variants=["a", "b"]', "full",
            """optimize run --recipe r --set 'gates.size={kind="size", max_mb=3}' """
            """--set 'judge.variants=["a", "b"]' --out report""",
        ),
        ("duet kit --python 'my old/python' --python python --max-slowdown-pct 3 --threads 1",
         "full", "optimize duet kit --python 'my old/python' --python python --max-slowdown-pct 3 "
         "--threads 1 --out report"),
        ("the kit my kit", "full", "pytest benchmarks --kit 'my kit' --out report"),
    ],
)  # fmt: skip
def test_the_command_measures_the_same_again(report, source, mode, told):
    changed = report.model_copy(update={"settings_source": source, "mode": mode})
    assert command(changed).splitlines()[-1] == told


def test_the_first_figure_is_the_paired_one(report):
    """And not one median over another, which can lie outside of its interval."""
    pair = pair_of(report)
    found = compared(report).comparisons.speedup(pair.candidate, "typical")
    series = dict(report.timing.series["typical"])
    series[pair.reference] = series[pair.reference].model_copy(update={"p50_ms": 1e6})
    timing = report.timing.model_copy(update={"series": {"typical": series}})
    told = sentence(report.model_copy(update={"timing": timing}), pair)
    assert f"{found.ratio:.1f}" == "1.0"
    assert "no faster" in told


def test_labels_of_texts_that_have_several_are_told_one_by_one(canned_report):
    """Three texts with the sets {cancel}, {cancel, refund}, {refund}; the student drops refunds."""
    report = answering(canned_report("pass"), ("a", "b", "c"))
    right = Predictions(labels=(0, 1, 2), confidences=(0.9, 0.9, 0.9))
    less = Predictions(labels=(0, 0, 3), confidences=(0.9, 0.9, 0.9))
    changes = {
        "labels": (0, 1, 2),
        "label_sets": ((0,), (0, 1), (1,), ()),
        "class_names": ("cancel", "refund"),
        "label_names": ("cancel", "cancel + refund", "refund", "none"),
        "predictions": {report.split: {"teacher-torch": right, "student-int8": less}},
    }
    report = report.model_copy(update=changes)
    found = {each.label: each for each in by_label(report, pair_of(report))}
    assert {name: (each.texts, each.candidate) for name, each in found.items()} == {
        "refund": (2, 0.0),
        "cancel": (2, 1.0),
    }
    assert (found["cancel"].given_wrongly, found["refund"].given_wrongly) == (0, 0)
    assert [text for text, _ in found["refund"].examples] == ["b", "c"]


def test_labels_that_are_given_wrongly_are_told(canned_report):
    """Recall alone is perfect for a label that every text is given; and no label is one more."""
    report = answering(canned_report("pass"), ("a", "b", "c"))
    all_of_it = Predictions(labels=(0, 0, 0), confidences=(0.9, 0.9, 0.9))
    right = Predictions(labels=(0, 1, 2), confidences=(0.9, 0.9, 0.9))
    report = report.model_copy(update={
        "labels": (0, 1, 2),
        "label_sets": ((0,), (1,), ()),
        "class_names": ("cancel", "refund"),
        "label_names": ("cancel", "refund", "(none)"),
        "predictions": {report.split: {"teacher-torch": right, "student-int8": all_of_it}},
    })  # fmt: skip
    found = {each.label: each for each in by_label(report, pair_of(report))}
    assert found["cancel"].candidate == 1.0
    assert (found["cancel"].given_wrongly, found["cancel"].reference_wrongly) == (2, 0)
    assert (found["(none)"].texts, found["(none)"].candidate) == (1, 0.0)
    text = Parsed(html(report)).text
    assert "given wrongly" in text
    assert "2 (0)" in text
    assert "no mistake" not in text  # each of the three has one


@pytest.mark.parametrize(
    ("ratio", "smaller", "drop", "told"),
    [
        (0.97, 0.004, 0.0, "no faster and no smaller than"),
        (1.02, 0.9952, 0.04, "no faster and 99.5 % smaller than"),
        (5.0, 0.99999, -0.02, "5.0× as fast and 99.9 % smaller than"),
    ],
)
def test_a_sentence_stays_true_when_figures_are_rounded(report, ratio, smaller, drop, told):
    report = compared(report)
    pair = pair_of(report)
    speedups = tuple(
        each.model_copy(update={"ratio": ratio}) if each.candidate == pair.candidate else each
        for each in report.comparisons.speedups
    )
    drops = tuple(
        each.model_copy(update={"drop_pp": drop}) if each.candidate == pair.candidate else each
        for each in report.comparisons.drops
    )
    sizes = {pair.reference: 10**8, pair.candidate: round(10**8 * (1 - smaller))}
    variants = {
        name: facts.model_copy(update={"size_bytes": sizes.get(name, facts.size_bytes)})
        for name, facts in report.variants.items()
    }
    found = report.comparisons.model_copy(update={"speedups": speedups, "drops": drops})
    words = sentence(report.model_copy(update={"comparisons": found, "variants": variants}), pair)
    assert told in words
    assert "answers as many texts right, at worst" in words


def test_what_changed_is_shown_of_a_variant_alone_too(report):
    """One that is held against a stored report has no other variant beside it."""
    change = LabelChange(text="where", truth="track", before="track", after="refund",
                         before_confidence=0.9, after_confidence=0.6)  # fmt: skip
    facts = BaselineFacts(source="b.json", kind="report", model_sha256="0", changes=(change,))
    alone = {report.split: {"student-int8": report.predictions[report.split]["student-int8"]}}
    single = report.model_copy(update={"baseline": facts, "predictions": alone})
    assert pair_of(single) is None
    assert "Texts that changed label since the baseline" in html(single)


def test_texts_that_changed_since_the_baseline_are_shown(report):
    assert "since the baseline" not in html(report)
    change = LabelChange(text="<b>where</b>", truth="track", before="track", after="refund",
                         before_confidence=0.9, after_confidence=0.6)  # fmt: skip
    facts = BaselineFacts(source="git:main", kind="bundle", model_sha256="0", changes=(change,))
    page = html(report.model_copy(update={"baseline": facts}))
    assert "Texts that changed label since the baseline" in page
    assert "&lt;b&gt;where&lt;/b&gt;" in page
    assert "track (0.90)" in Parsed(page).text
    assert "refund (0.60)" in Parsed(page).text
