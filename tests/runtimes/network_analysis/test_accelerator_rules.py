"""The rules by which accelerators refuse operators."""

from __future__ import annotations

import pytest

from tinyvit.runtimes.formats.openvino_layers import ALLOWED_LAYERS
from tinyvit.runtimes.formats.tflite_network import _OPERATOR_NAMES
from tinyvit.runtimes.formats.xnnpack_network import _OPERATORS
from tinyvit.runtimes.network_analysis.accelerator_rules import (
    COMMON_ONNX_OPERATORS,
    COMMON_OPERATORS,
    CONVERSIONS,
    explain_refusal,
)


def test_the_names_exist_in_their_languages() -> None:
    assert COMMON_OPERATORS["openvino"] <= ALLOWED_LAYERS
    assert COMMON_OPERATORS["tflite"] <= set(_OPERATOR_NAMES)
    assert COMMON_OPERATORS["xnnpack"] <= {name for name, _fields in _OPERATORS}
    assert COMMON_ONNX_OPERATORS.union(*COMMON_OPERATORS.values()) >= CONVERSIONS


def test_the_onnx_names_exist() -> None:
    onnx = pytest.importorskip("onnx")
    assert all(onnx.defs.has(name) for name in COMMON_ONNX_OPERATORS)


def test_the_mil_names_exist() -> None:
    pytest.importorskip("coremltools")
    from coremltools.converters.mil import Builder

    assert [name for name in COMMON_OPERATORS["mil"] if not hasattr(Builder, name)] == []


def test_the_first_reason_is_stated() -> None:
    assert explain_refusal(True, False, 4, False) == ""
    assert explain_refusal(False, True, 5, True) == "NPUs do not have this operator"
    assert explain_refusal(True, True, 5, True) == "sizes are only known at run time"
    assert explain_refusal(True, False, 5, True) == "a tensor has 5 dimensions, more than 4"
    assert explain_refusal(True, False, 4, True).startswith("it computes in floats")
