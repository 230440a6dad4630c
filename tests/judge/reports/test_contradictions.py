"""Reports that fit the schema and contradict themselves are refused when they are read."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import make_report
from optimize.bundle.manifest import StoredError
from optimize.judge.reports import tables
from optimize.judge.reports.render import markdown, svg, terminal
from optimize.judge.stored import check_verdicts, read_report

WHOLE = json.loads(make_report("pass").model_dump_json(exclude={"content_sha256"}))


def stored(folder, content):
    path = folder / "report.json"
    path.write_text(json.dumps(content))
    return path


def test_a_whole_report_is_read(tmp_path):
    assert read_report(stored(tmp_path, WHOLE)).verdict == "pass"


def places(content, path=()):
    """Every value of a report, by its place."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


PLACES = [place for place in places(WHOLE) if place]
VALUES = st.sampled_from([0, -1, 10**9, "", "nope", None, [], {}, [[]], True, 1e-300, "drop it"])


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=2))
def test_no_report_gives_anything_but_a_table_or_a_refusal(tmp_path, changes):
    content = copy.deepcopy(WHOLE)
    for place, value in changes:
        owner = content
        try:
            for key in place[:-1]:
                owner = owner[key]
            if value == "drop it":
                del owner[place[-1]]
            else:
                owner[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # the first change took the place of the second
    path = stored(tmp_path, content)
    try:
        report = read_report(path)
        check_verdicts(report, str(path))
    except StoredError:
        return
    assert terminal(report, 160, colour=False)
    assert markdown(report)
    assert svg(report)
    assert isinstance(tables.complaints(report), list | tuple)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["labels"].append(0), "labels and .* confidences for"),
        (lambda r: r.update(labels=[], texts=[]), "labels is empty"),
        (lambda r: r.update(gates=[]), "gates is empty: nothing was decided"),
        (lambda r: r["gates"].append(r["gates"][0]), "twice"),
        (lambda r: r.update(variants={}), "variants is empty"),
        (lambda r: r["settings"].pop("judge"), r"settings\.judge is missing"),
        (lambda r: r.update(split="nope"), "predictions has no split 'nope'"),
    ],
)
def test_what_contradicts_is_named_by_its_place(tmp_path, change, words):
    content = copy.deepcopy(WHOLE)
    change(content)
    with pytest.raises(StoredError, match=f"contradicts itself: .*{words}"):
        read_report(stored(tmp_path, content))
