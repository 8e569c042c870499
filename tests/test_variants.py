"""The tables of variants and released checkpoints agree with the model and the publications."""

from __future__ import annotations

import pytest

from tinyvit.errors import RequestError
from tinyvit.variants import RELEASED, VARIANTS, Variant, find_released


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_costs_in_the_table_are_those_of_the_model(variant: Variant) -> None:
    torch = pytest.importorskip("torch")
    from tinyvit.nn.cost import count_macs, count_params
    from tinyvit.nn.model import TinyViT

    with torch.device("meta"):
        model = TinyViT(variant).eval()
    assert count_params(model) == variant.params
    assert count_macs(model) == variant.macs
    assert abs(variant.macs / 1e9 - variant.paper_gmacs) <= max(0.05, 0.01 * variant.paper_gmacs)


def test_attention_products_are_counted() -> None:
    """The 5M network has windows x heads x tokens^2 x 32 MACs, twice, in each block of a stage."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from tinyvit.nn.model import TinyViT

    with torch.device("meta"):
        model = TinyViT(VARIANTS["tiny_vit_5m_224"]).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 224, 224))
    by_hand = 32 * 2 * (16 * 4 * 49**2 * 2 + 5 * 196**2 * 6 + 10 * 49**2 * 2)
    products = sum(
        flops for name, flops in counter.get_flop_counts()["Global"].items() if "bmm" in str(name)
    )
    assert products / 2 == by_hand


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("tinyvit_5m", "tiny_vit_5m_224.dist_in22k_ft_in1k"),
        ("tiny_vit_11m_224", "tiny_vit_11m_224.dist_in22k_ft_in1k"),
        ("tinyvit_21m_512", "tiny_vit_21m_512.dist_in22k_ft_in1k"),
        ("tiny_vit_5m_224.in1k", "tiny_vit_5m_224.in1k"),
        ("timm/tiny_vit_21m_224.dist_in22k", "tiny_vit_21m_224.dist_in22k"),
    ],
)
def test_short_names_stand_for_released_checkpoints(name: str, full: str) -> None:
    assert find_released(name).name == full


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="tinyvit_21m"):
        find_released("tinyvit_22m")


def test_windows_are_those_of_the_paper() -> None:
    assert VARIANTS["tiny_vit_5m_224"].window_sizes == (7, 7, 14, 7)
    assert VARIANTS["tiny_vit_21m_384"].window_sizes == (12, 12, 24, 12)
    assert VARIANTS["tiny_vit_21m_512"].window_sizes == (16, 16, 32, 16)


def test_published_figures() -> None:
    assert len(RELEASED) == 11
    assert (
        RELEASED["tiny_vit_21m_512.dist_in22k_ft_in1k"].top1,
        RELEASED["tiny_vit_5m_224.in1k"].top5,
    ) == (86.5, 94.8)
    assert RELEASED["tiny_vit_11m_224.dist_in22k"].num_classes == 21841
    assert (
        RELEASED["tiny_vit_21m_384.dist_in22k_ft_in1k"].hub_id
        == "timm/tiny_vit_21m_384.dist_in22k_ft_in1k"
    )
