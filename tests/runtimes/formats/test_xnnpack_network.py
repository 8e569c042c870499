"""What is read of the parts of .pte files for XNNPACK; ExecuTorch makes the parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("executorch")

import torch

from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.formats import xnnpack_network
from tinyvit.runtimes.formats.executorch import EXECUTORCH
from tinyvit.runtimes.formats.stated_operators import StatedNetwork
from tinyvit.runtimes.network_analysis.coverage import check_coverage
from tinyvit.runtimes.network_analysis.coverage_result import Coverage


@cache
def read_schema() -> str:
    folder = files("executorch.backends.xnnpack.serialization")
    return folder.joinpath("schema.fbs").read_text("utf-8")


def find_body(keyword: str, name: str) -> str:
    """Return what the schema states between the braces of a union or table."""
    start = re.search(rf"^{keyword} {name} \{{$", read_schema(), re.MULTILINE)
    assert start is not None
    return read_schema()[start.end() :].split("}")[0]


def list_fields(table: str) -> list[str]:
    return re.findall(r"^\s*(\w+)\s*:", find_body("table", table), re.MULTILINE)


def list_nodes() -> list[tuple[str, str]]:
    """Return name and table of every kind of node."""
    rows = re.findall(r"^\s*(\w+)(?::\s*(\w+))?,", find_body("union", "XNodeUnion"), re.MULTILINE)
    return [(name, table or name) for name, table in rows]


def test_the_kinds_of_nodes_are_those_of_the_schema() -> None:
    names = [name.removeprefix("XNN") for name, _table in list_nodes()]
    assert [name for name, _fields in xnnpack_network._OPERATORS] == names


def test_the_numbers_of_the_fields_are_those_of_the_schema() -> None:
    for (_name, table), (name, (inputs, output)) in zip(list_nodes(), xnnpack_network._OPERATORS):
        fields = list_fields(table)
        assert fields[output] in ("output_id", "output_value_id"), name
        for number in inputs:
            assert fields[number].endswith("_id"), name
            assert not fields[number].startswith(("output", "bias", "scale", "mask")), name


def export(
    folder: Path, forward: Callable[..., Any], inputs: tuple[Any, ...], **options: Any
) -> Path:
    """Export a function to a .pte file with XNNPACK."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dw = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3, groups=4)
            self.up, self.linear = torch.nn.ConvTranspose2d(4, 2, 2), torch.nn.Linear(6, 5)

        def forward(self, *values: Any) -> Any:
            return forward(self, *values)

    program = torch.export.export(Network().eval(), inputs, **options)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path = folder / "a.pte"
    path.write_bytes(bytes(lowered.to_executorch().buffer))
    return path


def read(path: Path) -> StatedNetwork:
    return EXECUTORCH.read_stated_network(path)


def coverage_of(path: Path) -> Coverage:
    return check_coverage(read_artifact(path))


def test_products_are_counted(tmp_path: Path) -> None:
    def forward(network: Any, image: Any) -> Any:
        return network.up(network.dw(network.conv(image)))

    network = read(export(tmp_path, forward, (torch.zeros(1, 3, 8, 8),)))
    found = {item.name: item.multiplications for item in network.operators if item.multiplications}
    assert found == {
        "Conv2d": 6 * 6 * 4 * 27,
        "DepthwiseConv2d": 4 * 4 * 4 * 9,
        "ConvTranspose2d": 4 * 4 * 4 * 2 * 4,
    }


def test_products_of_matrices_are_counted(tmp_path: Path) -> None:
    def forward(network: Any, x: Any, y: Any) -> Any:
        return torch.bmm(network.linear(x), y)

    inputs = (torch.zeros(2, 3, 6), torch.zeros(2, 5, 7))
    network = read(export(tmp_path, forward, inputs))
    found = {item.name: item.multiplications for item in network.operators if item.multiplications}
    assert found == {"FullyConnected": 2 * 3 * 5 * 6, "BatchMatrixMultiply": 2 * 3 * 7 * 5}
    assert coverage_of(tmp_path / "a.pte").refused == ()


def test_products_outside_of_the_part_are_counted(tmp_path: Path) -> None:
    def forward(network: Any, x: Any, y: Any) -> Any:
        return torch.mm(x.erf(), y).erf()

    network = read(export(tmp_path, forward, (torch.zeros(3, 6), torch.zeros(6, 4))))
    outside = {item.name: item.multiplications for item in network.operators if item.refusal}
    assert outside["aten::erf.out"] == 0
    total = sum(item.multiplications or 0 for item in network.operators)
    assert total == 3 * 6 * 4


def test_dimensions_operators_and_open_sizes_are_refused(tmp_path: Path) -> None:
    five = coverage_of(export(tmp_path, lambda network, x: x + x, (torch.zeros(1, 2, 2, 2, 2),)))
    assert [(item.operator, item.reason) for item in five.refused] == [
        ("Add", "a tensor has 5 dimensions, more than 4")
    ]
    unusual = coverage_of(export(tmp_path, lambda network, x: x.abs(), (torch.zeros(1, 4),)))
    assert [(item.operator, item.reason) for item in unusual.refused] == [
        ("Abs", "NPUs do not have this operator")
    ]
    shapes = ({1: torch.export.Dim("n", min=2, max=9)},)
    path = export(
        tmp_path, lambda network, x: x + x, (torch.zeros(1, 4),), dynamic_shapes=(shapes,)
    )
    reasons = {item.reason for item in coverage_of(path).refused}
    assert "sizes are only known at run time" in reasons


def test_floats_in_a_quantized_network_are_refused(tmp_path: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(6, 5)

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.gelu(self.linear(x))

    inputs = (torch.ones(1, 6),)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config())
    prepared = prepare_pt2e(torch.export.export(Network().eval(), inputs).module(), quantizer)
    prepared(*inputs)
    program = torch.export.export(convert_pt2e(prepared), inputs)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path = tmp_path / "a.pte"
    path.write_bytes(bytes(lowered.to_executorch().buffer))
    assert read(path).is_quantized
    coverage = coverage_of(path)
    assert [(item.operator, item.reason) for item in coverage.refused] == [
        ("Gelu", "it computes in floats, in a quantized network")
    ]
