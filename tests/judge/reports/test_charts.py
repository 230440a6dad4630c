"""Charts are read by people: what they say must not lie on other words."""

import math
import re

import pytest

from optimize.judge.reports.charts import CHARACTER, Bubble, Dots, bubbles, strips

# Latency in milliseconds, accuracy in per cent, bytes: as in reports of real runs.
CROWDED = {
    "the sample": [
        ("teacher-torch", 9.0, 92.1, 91e6),
        ("teacher-onnx", 4.2, 92.1, 91e6),
        ("student-onnx", 2.0, 91.8, 40e6),
        ("student-int8", 0.8, 91.7, 7.2e6),
        ("student-int8-optimum", 0.8, 91.8, 13e6),
        ("tf-idf", 0.4, 82.0, 2e6),
    ],
    "one beside the other": [(f"shape-{n}", 1.0 + n / 20, 91.0 + n / 10, 8e6) for n in range(8)],
}


def text_boxes(svg):
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="start">([^<]+)</text>', svg)
    return [(float(x), float(y), float(x) + CHARACTER * len(name)) for x, y, name in found]


@pytest.mark.parametrize("case", CROWDED)
def test_names_lie_on_no_name_and_under_no_bubble(case):
    svg = bubbles([Bubble(*point) for point in CROWDED[case]], "ms", "%")
    boxes = text_boxes(svg)
    assert len(boxes) == len(CROWDED[case])
    for number, (left, y, right) in enumerate(boxes):
        for other_left, other_y, other_right in boxes[number + 1 :]:
            assert right < other_left or other_right < left or abs(y - other_y) >= 12
    assert svg.rindex("<circle") < svg.index(CROWDED[case][0][0])


def test_a_name_is_clear_of_bubbles_where_there_is_room():
    svg = bubbles([Bubble(*point) for point in CROWDED["the sample"]], "ms", "%")
    circles = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', svg)
    for left, y, right in text_boxes(svg):
        for centre_x, centre_y, radius in ((float(x), float(y), float(r)) for x, y, r in circles):
            nearest = min(max(centre_x, left), right)
            assert math.hypot(nearest - centre_x, y - 5 - centre_y) >= radius


@pytest.mark.parametrize("values", [[2.5, 3.5], [0.6, 0.9], [3.0, 3.2], [1.0, 1.0]])
def test_an_axis_has_figures_wherever_its_values_lie(values):
    chart = strips([Dots("a", values, min(values), max(values))], "ms")
    assert len(re.findall(r">[0-9.e-]+ ms<", chart)) >= 1
