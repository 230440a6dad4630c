"""Several labels a text, and pairs of texts, from data to bundle, runtime, judge and gate."""

import json
import random
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import FILLERS, LABELS, WORDS, write_tiny_recipe
from optimize import Classifier, settings
from optimize.bundle.folder import BundleError, read_manifest
from optimize.bundle.guard import guarded
from optimize.bundle.manifest import Manifest
from optimize.cli import main
from optimize.judge.kit import Examples, KitError, read_kit
from optimize.judge.records import overall
from optimize.judge.run import judge
from optimize.judge.statistics.accuracy import score

pytestmark = pytest.mark.torch
SPLITS = {"train": 160, "validation": 60, "test": 110}
GATES = """
[gates.right]
kind = "accuracy"
candidate = "student-int8"
reference = "student-onnx"
max_drop_pp = 3.0

[gates.alike]
kind = "fidelity"
candidate = "student-int8"
reference = "student-onnx"
min_agreement_pct = 90.0
"""


def words_of(labels, rng):
    return [rng.choice(WORDS[label]) for label in labels] + rng.sample(FILLERS, 2)


def several(rng, number):
    labels = rng.sample(LABELS, rng.choice((0, 1, 1, 2)))
    return {"text": " ".join([*words_of(labels, rng), str(number)]), "label": labels}


def pair(rng, number):
    first, second = rng.choice(LABELS), rng.choice(LABELS)
    return {
        "first": " ".join([*words_of([first], rng), str(number)]),
        "second": " ".join(words_of([second], rng)),
        "label": "same" if first == second else "other",
    }


def recipe(folder, backbone, make, data):
    rng = random.Random(0)
    rows = [
        {"split": split, **make(rng, number)}
        for split, size in SPLITS.items()
        for number in range(size)
    ]
    source = folder / "data.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = write_tiny_recipe(folder / "recipe.toml", source, backbone)
    text = path.read_text(encoding="utf-8")
    text = text.replace("[teacher]", f"{data}\n\n[teacher]", 1)
    text = text.replace("epochs = 16", "epochs = 6").replace("epochs = 12", "epochs = 6")
    text = text.replace(
        "[judge]", '[judge]\nvariants = ["student-onnx", "student-int8"]\ncontrol = "student-int8"'
    )
    path.write_text(f'{text}\n[quantize]\ncompare = "none"\n{GATES}', encoding="utf-8")
    return path


def built(tmp, backbone, cache, make, data):
    from optimize.pipeline.runner import build

    path = recipe(tmp, backbone, make, data)
    chosen, _ = settings.load(str(path))
    return build(chosen, lambda line: None, cache), chosen


@pytest.fixture(scope="module")
def several_kit(tmp_path_factory, tiny_backbone, tiny_cache):
    folder = tmp_path_factory.mktemp("several")
    data = 'problem_type = "multi_label_classification"'
    return built(folder, tiny_backbone, tiny_cache, several, data)


@pytest.fixture(scope="module")
def pair_kit(tmp_path_factory, tiny_backbone, tiny_cache):
    folder = tmp_path_factory.mktemp("pairs")
    data = 'text_column = "first"\ntext_pair_column = "second"'
    return built(folder, tiny_backbone, tiny_cache, pair, data)


@pytest.fixture(scope="module")
def several_report(several_kit):
    kit, chosen = several_kit
    return judge(read_kit(kit), chosen, "test", "quick", lambda line: None)


def test_each_text_has_its_labels_in_the_kit(several_kit):
    rows = (several_kit[0] / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert {len(json.loads(row)["labels"]) for row in rows} == {0, 1, 2}


def test_the_bundle_gives_several_labels_and_none(several_kit):
    bundle = several_kit[0] / "student-int8"
    classifier = Classifier(bundle)
    answers = classifier.predict_sets(["refund cancel please order 3", "hello today 1"])
    assert {"refund", "cancel"} >= set(answers[0].labels) != set()
    for answer, probabilities in zip(
        answers, classifier.predict_proba(["refund cancel please order 3", "hello today 1"]),
        strict=True,
    ):  # fmt: skip
        thresholds = classifier.manifest.thresholds
        above = [
            label
            for label, value, least in zip(
                classifier.labels, probabilities, thresholds, strict=True
            )
            if value > least
        ]
        assert list(answer.labels) == above
    with pytest.raises(TypeError, match="ask predict_sets"):
        classifier.predict(["refund"])
    with guarded(bundle) as guard:
        assert guard.predict("refund cancel please order 3").labels == answers[0].labels


def test_the_config_tells_other_libraries(several_kit):
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(several_kit[0] / "student-int8")
    assert found.problem_type == "multi_label_classification"


def test_whole_sets_and_micro_f1_are_judged(several_kit, several_report):
    report = several_report
    assert overall(result.verdict for result in report.gates) in ("pass", "inconclusive")
    scores = report.scores["test"]["student-int8"]
    assert 1 >= scores.micro_f1 >= scores.accuracy > 0.8
    assert "of micro F1" in report.gates[0].measured
    assert "(none)" in report.label_names
    assert report.class_names == LABELS
    examples = read_kit(several_kit[0]).examples("test")
    answers = Classifier(several_kit[0] / "student-int8").predict_sets(examples.texts, batch_size=1)
    judged = report.predictions["test"]["student-int8"].labels
    names = [report.label_names[each] for each in judged]
    assert names == [" + ".join(answer.labels) or "(none)" for answer in answers]


def test_the_report_is_read_again_and_shown(several_report, tmp_path, capsys):
    from optimize.judge.reports.page import html
    from optimize.judge.stored import check_verdicts, read_report, write_json

    write_json(several_report, tmp_path / "report.json")
    again = read_report(tmp_path / "report.json")
    check_verdicts(again, "the report")
    assert again.label_sets == several_report.label_sets
    assert main(["report", str(tmp_path / "report.json")]) == 0
    told = capsys.readouterr().out
    assert "all labels right" in told
    assert "micro F1" in told
    assert "micro F1 on test" in html(again)
    broken = json.loads((tmp_path / "report.json").read_text())
    broken["label_sets"][0] = [7]
    broken["content_sha256"] = None
    (tmp_path / "report.json").write_text(json.dumps(broken))
    assert main(["report", str(tmp_path / "report.json")]) == 1


def test_a_baseline_numbers_its_sets_as_it_likes(several_kit, several_report):
    from optimize.judge.held_against import as_here

    kit, _ = several_kit
    order = list(range(len(several_report.label_sets)))[::-1]
    place = {old: new for new, old in enumerate(order)}
    turned = several_report.model_copy(
        update={
            "label_sets": tuple(several_report.label_sets[each] for each in order),
            "label_names": tuple(several_report.label_names[each] for each in order),
        }
    )
    found = several_report.predictions["test"]["student-int8"]
    moved = found.model_copy(update={"labels": tuple(place[each] for each in found.labels)})
    here = read_kit(kit)
    ids = as_here(moved, turned, here).labels
    names = here.label_sets.names
    assert [names[each] for each in ids] == [
        several_report.label_names[each] for each in found.labels
    ]


def test_lost_labels_lower_the_scores(several_report, several_kit):
    kit = read_kit(several_kit[0])
    examples = kit.examples("test")
    found = several_report.predictions["test"]["student-int8"]
    empty = several_report.label_sets.index(())
    none = found.model_copy(update={"labels": (empty,) * len(found.labels)})
    members = several_report.label_sets
    lost = score(none, Examples(examples.texts, np.array(several_report.labels)), 3, None, members)
    assert (lost.micro_f1, lost.macro_f1) == (0.0, 0.0)


def test_pairs_are_answered_as_they_were_learned(pair_kit):
    kit, _ = pair_kit
    classifier = Classifier(kit / "student-int8")
    pairs = [("refund please", "money back today"), ("cancel order", "where parcel")]
    assert len(classifier.predict(pairs)) == 2
    with pytest.raises(TypeError, match=r"texts\[1\] is 'one', and this model takes pairs"):
        classifier.predict([pairs[0], "one"])
    with pytest.raises(TypeError, match=r"texts\[0\] is .* takes pairs"):
        classifier.predict([("a", "b", "c")])
    with pytest.raises(ValueError, match="U\\+001F"):
        classifier.predict([("a\x1fb", "c")])
    manifest = read_manifest(kit / "student-int8")
    assert manifest.text_pair
    assert json.loads((kit / "data" / "test.jsonl").read_text().split("\n")[0])["text_pair"]


def test_token_types_of_pairs_are_the_tokenizers_own(pair_kit, tmp_path):
    from optimize.bundle.encoder import TextEncoder
    from optimize.bundle.texts import joined
    from optimize.models.checkpoint import load_tokenizer
    from optimize.training.tokens import tokenise

    bundle = pair_kit[0] / "student-int8"
    tokenizer = load_tokenizer(str(bundle))
    texts = [joined("refund please 1", "money"), joined("cancel", "where my parcel now 23")]
    expected = tokenizer(
        [text.split("\x1f")[0] for text in texts], [text.split("\x1f")[1] for text in texts],
        padding=True, return_tensors="np",
    )  # fmt: skip
    batch = tokenise(texts, tokenizer, 32, tmp_path, pairs=True).batch(np.array([0, 1]))
    assert batch["token_type_ids"].sum() > 0
    encoder = TextEncoder(bundle, read_manifest(bundle))
    deployed = {int(row): {} for row in range(2)}
    for rows, arrays in encoder.batches(texts, 1):
        deployed[rows[0]] = arrays
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert batch[name].tolist() == expected[name].tolist(), name
        for row in range(2):
            length = int(expected["attention_mask"][row].sum())
            assert deployed[row][name][0].tolist() == expected[name][row][:length].tolist()


def test_pairs_are_judged(pair_kit):
    kit, chosen = pair_kit
    report = judge(read_kit(kit), chosen, "test", "quick", lambda line: None)
    assert " ‖ " in report.texts[0]
    assert report.label_sets is None
    assert report.scores["test"]["student-int8"].examples == SPLITS["test"]


def test_pairs_on_the_command_line(pair_kit, capsys):
    bundle = str(pair_kit[0] / "student-int8")
    assert main(["predict", bundle, "refund now\tmoney back", "one text"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0].endswith("refund now\tmoney back")
    assert "text 2: this bundle takes pairs" in err


def test_a_bundle_of_another_problem_is_refused(several_kit, pair_kit, tmp_path):
    kit = read_kit(several_kit[0])
    other = tmp_path / "bundle"
    shutil.copytree(several_kit[0] / "student-int8", other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest |= {"problem_type": "single_label_classification", "thresholds": None}
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(KitError, match="does single_label_classification of texts"):
        kit.with_bundle(other, "baseline")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thresholds": [0.5]}, "thresholds has 1 values for 3 labels"),
        ({"thresholds": [0.5, 0.5, 1.5]}, "<= 1"),
        ({"problem_type": "regression"}, "regression"),
        ({"problem_type": "single_label_classification"}, "thresholds are for problem_type"),
        ({"out_of_scope": {"label": "track", "bias": 0.0}}, "for one label a text"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(several_kit, tmp_path, change, words):
    shutil.copytree(several_kit[0] / "student-int8", tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=words):
        Classifier(tmp_path / "b")


def test_models_made_elsewhere(several_kit, pair_kit, tmp_path):
    from optimize.quantize.adopt import adopt, check_labels
    from optimize.quantize.adopted_answers import AdoptError

    for kit, pairs in ((several_kit[0], False), (pair_kit[0], True)):
        source, result = tmp_path / f"source{pairs}", tmp_path / f"result{pairs}"
        shutil.copytree(kit / "student-int8", source)
        (source / "manifest.json").unlink()
        result.mkdir()
        adopted = adopt(source, result, text_pair=pairs, max_length=32)
        assert adopted.text_pair is pairs
        assert adopted.multi_label is not pairs
    assert isinstance(adopted, Manifest)
    with pytest.raises(AdoptError, match=r"variants\.mine: the model is of problem_type"):
        check_labels("mine", adopted, adopted.labels, "multi_label_classification", text_pair=True)
    with pytest.raises(AdoptError, match="the model takes pairs, and the data is of texts"):
        check_labels("mine", adopted, adopted.labels, adopted.problem_type)


@pytest.mark.whole
def test_own_functions_and_word_counts(several_kit, tmp_path):
    """A recipe that judges without building: word counts, and a function of one's own."""
    pytest.importorskip("sklearn", reason="the extra `linear` is not installed")
    from optimize.pipeline.runner import build

    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "def load(folder):\n"
        "    return lambda texts: [[w for w in ('cancel', 'refund') if w in t] for t in texts]\n",
        encoding="utf-8",
    )
    source = settings.load(str(Path(several_kit[1].data.source).parent / "recipe.toml"))[0]
    table = {
        "data": source.data.model_dump(),
        "variants": {
            "words": {"trained": "tf-idf"},
            "mine": {"python": "mine:load", "path": str(folder)},
        },
        "judge": {
            "variants": ["words", "mine"],
            "workloads": {"typical": {"texts": 8}},
            "block_ms": 2.0,
            "quick_blocks": 4,
            "threads": 1,
        },
    }
    chosen = settings.parse(table, "test")
    kit = read_kit(build(chosen, lambda line: None, tmp_path / "cache")).trusting(chosen.variants)
    report = judge(kit, chosen, "test", "quick", lambda line: None)
    found = report.scores["test"]
    assert found["words"].micro_f1 > 0.5
    assert 0.3 < found["mine"].micro_f1 < 1


@pytest.mark.parametrize("name", ["several-labels", "pairs"])
def test_the_examples_are_read_as_they_say(name, tmp_path, tiny_backbone, monkeypatch, capsys):
    example = Path(__file__).parents[2] / "examples" / name
    folder = shutil.copytree(example, tmp_path / name)
    monkeypatch.chdir(folder)
    runpy.run_path("data.py", run_name="__main__")
    assign = ("--set", f"teacher.checkpoint={tiny_backbone}", "--set", "student.layers=1")
    assert main(["check", "--recipe", "recipe.toml", *assign]) == 0
    assert "cost: a build trains" in capsys.readouterr().out


def test_a_bundle_of_single_texts_is_refused_for_pairs(pair_kit, tmp_path):
    kit, other = read_kit(pair_kit[0]), tmp_path / "bundle"
    shutil.copytree(pair_kit[0] / "student-int8", other)
    path = other / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"text_pair": False}))
    with pytest.raises(KitError, match="the kit single_label_classification of pairs of texts"):
        kit.with_bundle(other, "baseline")


def test_reports_whose_sets_are_numbered_otherwise_are_compared_by_name(several_report):
    from optimize.judge.reports.compare import _alike

    order = list(range(len(several_report.label_names)))[::-1]
    found = several_report.predictions["test"]["student-int8"]
    place = {old: new for new, old in enumerate(order)}
    moved = found.model_copy(update={"labels": tuple(place[each] for each in found.labels)})
    turned = several_report.model_copy(
        update={
            "label_names": tuple(several_report.label_names[each] for each in order),
            "label_sets": tuple(several_report.label_sets[each] for each in order),
            "predictions": {"test": {"student-int8": moved}},
        }
    )
    before, after, names = _alike(turned, several_report, "student-int8")
    assert before.labels == after.labels == found.labels
    assert tuple(names) == several_report.label_names


def test_a_report_without_the_names_of_its_sets_is_refused(several_report, tmp_path):
    from optimize.bundle.manifest import StoredError
    from optimize.judge.stored import read_report

    content = json.loads(several_report.model_dump_json())
    path = tmp_path / "report.json"
    for change in ({"class_names": []}, {"label_sets": [], "label_names": []}):
        bare = {"content_sha256": None, "comparisons": None}
        path.write_text(json.dumps(content | bare | change))
        with pytest.raises(StoredError, match="label_sets has"):
            read_report(path)
