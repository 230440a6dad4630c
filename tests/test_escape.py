"""No text acts in any form that it is shown in."""

import re
import unicodedata
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import make_report
from optimize import escape
from optimize.judge.records import BaselineFacts, LabelChange
from optimize.judge.reports.render import markdown, svg, terminal
from optimize.judge.reports.tables import annotation

EVIL = (
    "\x1b[31mred", "\x1b]8;;http://x\x07link", "::error::boom", "  ::set-output name=a::b",
    "x ##[command]rm", "<script>alert(1)</script>", "![](http://x/y.png)", "[a](http://x)", "a | b",
    "`code`", "**bold** _it_ ~~no~~", "# title", "> quote", "- item", "@someone", "www.x.org",
    "http://x.org", "a\r\nb", "\u202eevil", "\ufffe", "\u2028", "[x]: http://y", "&lt;b&gt;", "\\",
    "1. one", "2) two", "__0__", "a__b", "      code", "===", "---", "1.", "- [ ] task", "\tx",
)  # fmt: skip
ACTS = st.one_of(
    st.text(),
    st.text(st.sampled_from("\x1b[]()<>!|`*_~#:@\\&.-+= 1a\r\n\u202e/w")),
    st.sampled_from(EVIL),
)


def has_control(text):
    return any(
        unicodedata.category(each) in escape.ACTING
        for each in text
        if each != "\n" and each not in escape.HARMLESS
    )


def acts_in_a_log(text):
    return any(line.strip().startswith("::") or "##[" in line for line in text.split("\n"))


@given(ACTS)
def test_a_line_for_a_terminal_is_one_line_that_does_nothing(text):
    shown = escape.for_terminal(text)
    assert not has_control(shown)
    assert "\n" not in shown
    assert not acts_in_a_log(shown)


@given(st.text(st.characters(categories=["L", "N", "Zs", "P", "S"])))
def test_plain_text_stays_as_it_is(text):
    if not acts_in_a_log(text):
        assert escape.for_terminal(text) == text


def rendered(text):
    from markdown_it import MarkdownIt

    return MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(text)


@settings(max_examples=400)
@given(ACTS)
def test_nothing_of_a_line_is_markup(text):
    shown = escape.for_markdown(text)
    html = rendered(f"- {shown}\n")
    tags = set(re.findall(r"<(/?\w+)", html))
    assert tags <= {"ul", "/ul", "li", "/li"}, html
    assert not re.search(r"@\w|\w://|www\.", shown)


@given(ACTS)
def test_a_cell_stays_a_cell(text):
    html = rendered(f"| a | b |\n| --- | --- |\n| {escape.for_markdown(text)} | end |\n")
    assert html.count("<td") == 2, html
    assert not set(re.findall(r"<(\w+)", html)) - {"table", "thead", "tbody", "tr", "th", "td"}


@given(ACTS)
def test_a_workflow_command_has_one_line_and_its_own_title(text):
    line = f"::error title={escape.for_command_property(text)}::{escape.for_command(text)}"
    assert "\n" not in line
    assert "\r" not in line
    title = line.removeprefix("::error title=").split("::")[0]
    assert "," not in title
    assert not re.search(r"%(?!25|0A|0D|3A|2C)", line)


@pytest.mark.parametrize("evil", EVIL)
def test_a_report_of_such_texts_acts_nowhere(evil):
    change = LabelChange(
        text=evil, truth=evil, before=evil, after=evil + "2", before_confidence=0.5,
        after_confidence=0.5,
    )  # fmt: skip
    facts = BaselineFacts(source=evil, kind="bundle", model_sha256="0", changes=(change,))
    report = make_report("fail")
    gate = report.gates[0].model_copy(update={"gate": evil, "measured": evil, "reason": evil})
    report = report.model_copy(update={"baseline": facts, "gates": (gate,), "recipe": evil})
    shown = terminal(report, 160, colour=False)
    assert not has_control(shown)
    assert not acts_in_a_log(shown)
    ElementTree.fromstring(svg(report))
    html = rendered(markdown(report))
    allowed = {"h2", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "br", "p"}
    assert not set(re.findall(r"<(\w+)", html)) - allowed, html
    assert len(annotation(gate).split("\n")) == 1


@pytest.mark.parametrize("text", ["$x$", "$$x$$", ":tada:", "#12", "owner/name#12", "a :+1: b"])
def test_github_makes_nothing_of_its_own_marks(text):
    """Formulas, small pictures and the numbers of issues."""
    shown = escape.for_markdown(text)
    assert not re.search(r"\$|:[\w+-]+:|(?<!&)#\d", shown)
    assert "".join(shown.split(escape.WORD_JOINER)).replace("&#36;", "$") == text
