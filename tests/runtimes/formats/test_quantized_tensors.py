"""Which tensors of a network are quantized, if operators quantize them."""

from __future__ import annotations

from tinyvit.runtimes.formats.quantized_tensors import (
    TensorRole,
    TensorUse,
    computes_in_floats,
    find_quantized_tensors,
)


def use(role: TensorRole, inputs: str, outputs: str) -> TensorUse:
    return TensorUse(role, tuple(inputs.split()), tuple(outputs.split()))


def test_a_float_network_has_no_quantized_tensors() -> None:
    uses = [use(TensorRole.COMPUTES, "x", "a"), use(TensorRole.PASSES, "a", "b")]
    assert find_quantized_tensors(uses) == set()


def test_rounding_quantizes_both_ends_and_moves_pass_it_on() -> None:
    uses = [
        use(TensorRole.COMPUTES, "x", "a"),
        use(TensorRole.PASSES, "a", "b"),
        use(TensorRole.ROUNDS, "b", "c"),
        use(TensorRole.PASSES, "c", "d"),
        use(TensorRole.COMPUTES, "d", "e"),
        use(TensorRole.PASSES, "e", "f"),
    ]
    quantized = find_quantized_tensors(uses)
    assert quantized == {"a", "b", "c", "d"}
    in_floats = [computes_in_floats(item, quantized) for item in uses]
    assert in_floats == [True, False, False, False, True, True]


def test_integers_between_quantize_and_dequantize_do_not_count() -> None:
    uses = [use(TensorRole.QUANTIZES, "x", "i"), use(TensorRole.DEQUANTIZES, "i", "y")]
    assert find_quantized_tensors(uses) == {"x", "y"}
    assert not any(computes_in_floats(item, set()) for item in uses)


def test_a_join_passes_on_only_if_all_its_inputs_are_quantized() -> None:
    joined = use(TensorRole.PASSES, "c f", "g")
    quantized = find_quantized_tensors([use(TensorRole.ROUNDS, "a", "c"), joined])
    assert "g" not in quantized
    assert computes_in_floats(joined, quantized)
