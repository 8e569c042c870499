"""Charts are readable on a phone, and their numbers stand where they belong."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

pytest.importorskip("matplotlib", reason="charts need tinyvit-edge[bench]")

from tests.helpers.records import (
    make_accuracy,
    make_accuracy_record,
    make_latency,
    make_latency_record,
    make_sensitivity_record,
)
from tinyvit.bench.report import charts
from tinyvit.bench.report.rows import Row, make_rows
from tinyvit.bench.report.sensitivity_chart import draw_sensitivity_chart

NAME = "a-name-that-is-longer-than-the-screen-of-a-phone-is-wide-and-still-goes-on.onnx"
PHONE_PX = 366
"""Width of a chart on a screen of 390 pixels, without the borders of the page."""


def make_result_rows() -> list[Row]:
    latencies = [make_latency(name, 20, stages_ms={"decode": 3.0}) for name in ("a.onnx", NAME)]
    accuracies = [make_accuracy(name, 850) for name in ("a.onnx", NAME)]
    return make_rows([make_latency_record(*latencies), make_accuracy_record(*accuracies)])


def draw_charts() -> dict[str, str]:
    rows = make_result_rows()
    (sensitivity,) = make_sensitivity_record().sensitivity
    return {
        "pareto": charts.draw_pareto_chart(rows),
        "latency": charts.draw_latency_chart(rows),
        "stages": charts.draw_stage_chart(rows),
        "accuracy": charts.draw_accuracy_chart(rows),
        "sensitivity": draw_sensitivity_chart(sensitivity.network),
    }


def find_numbers(pattern: str, svg: str) -> list[float]:
    (match,) = re.findall(pattern, svg)
    return [float(number) for number in match]


@pytest.mark.parametrize("name", ["pareto", "latency", "stages", "accuracy", "sensitivity"])
def test_text_is_readable_on_a_phone(name: str) -> None:
    svg = draw_charts()[name]
    (width,) = re.findall(r'viewBox="0 0 (\S+) ', svg)
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
    assert min(sizes) * PHONE_PX / float(width) >= 10


@pytest.mark.parametrize("name", ["latency", "stages", "accuracy"])
def test_a_long_name_leaves_the_width_to_the_chart(name: str) -> None:
    svg = draw_charts()[name]
    (view_width,) = re.findall(r'viewBox="0 0 (\S+) ', svg)
    background = re.search(r'id="patch_2">\s*<path d="M (\S+) \S+ \s*L (\S+) ', svg)
    assert background is not None
    left, right = map(float, background.groups())
    assert right - left > 0.9 * float(view_width)


def test_the_median_stands_at_the_end_of_its_bar() -> None:
    latency = replace(
        make_latency("a.onnx", 20), median_ms=20.0, turns_ms=((10.0, 20.0, 40.0),)
    )  # the 90th percentile is far beyond the median
    svg = charts.draw_latency_chart(make_rows([make_latency_record(latency)]))
    x, y = find_numbers(r'x="(\S+)" y="(\S+)"[^>]*>20\.00<', svg)
    bar = r'd="M (\S+) (\S+) \s*L (\S+) \S+ \s*L \S+ (\S+) [^"]*"[^>]*fill: var\(--strong\)'
    _, top, end, bottom = find_numbers(bar, svg)
    assert end < x < end + 6
    assert top < y < bottom
    line = r'd="M (\S+) (\S+) \s*L (\S+) \S+ \s*"[^>]*stroke: var\(--ink\); stroke-width: 1\.2'
    _, line_y, line_end = find_numbers(line, svg)
    assert line_end > x
    assert line_y > bottom


def test_the_points_of_the_pareto_chart_are_numbered_and_named() -> None:
    records = [
        make_latency_record(make_latency("slow.onnx", 30), make_latency("fast.onnx", 10)),
        make_accuracy_record(make_accuracy("slow.onnx", 900), make_accuracy("fast.onnx", 850)),
    ]
    svg = charts.draw_pareto_chart(make_rows(records))
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"1", "2", "1  fast.onnx", "2  slow.onnx"} <= set(texts)
