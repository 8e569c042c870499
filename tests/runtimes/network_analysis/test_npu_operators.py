"""Texts that count the operators on the CPU."""

from __future__ import annotations

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.network_analysis.npu_operators import describe_operators, parse_operators


def test_a_text_is_read_as_it_was_written() -> None:
    text = describe_operators({"a": "Gemm", "b": "Softmax", "c": "Gemm"})
    assert text == "2 Gemm, 1 Softmax"
    assert parse_operators(text) == {"Gemm": 2, "Softmax": 1}
    assert parse_operators(describe_operators({})) == {}


@pytest.mark.parametrize(
    "text", ["Gemm", "2", "x Gemm", "-1 Gemm", "99999 Gemm", "\u0663 Gemm", ", ", "9999 A, 9999 B"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="does not state the operators on the CPU"):
        parse_operators(text)
