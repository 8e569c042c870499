"""Images made from the network: nearer to its statistics than the noise they begin as, and the same however often interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tinyvit.quant.image_sources import Pixels  # noqa: E402

from tinyvit.nn.hub import load_released  # noqa: E402
from tinyvit.nn.model import TinyViT  # noqa: E402
from tinyvit.preprocess import Preprocess  # noqa: E402
from tinyvit.quant import synthetic  # noqa: E402
from tinyvit.quant.synthetic import SyntheticConfig, synthesize_images  # noqa: E402

QUICK = SyntheticConfig(batch=4, steps=3)
COUNT = 10  # three batches


@pytest.fixture(scope="module")
def small() -> tuple[TinyViT, Preprocess]:
    checkpoint = load_released("demo").at_size(64)
    return checkpoint.build(), checkpoint.preprocess


@pytest.fixture(scope="module")
def pixels(small: tuple[TinyViT, Preprocess]) -> Pixels:
    return synthesize_images(*small, COUNT, settings=QUICK).pixels


def distance(network: TinyViT, preprocess: Preprocess, pixels: Pixels) -> float:
    with torch.no_grad(), synthetic._distances(network) as found:
        network(torch.from_numpy(preprocess.normalize(pixels)))
    return float(torch.stack(found).mean())


def test_images_are_pixels_of_every_seed_their_own(
    small: tuple[TinyViT, Preprocess], pixels: Pixels
) -> None:
    made = synthesize_images(*small, COUNT, settings=QUICK)
    assert made.pixels.shape == (COUNT, 64, 64, 3)
    assert made.pixels.dtype == np.uint8
    assert len({one.tobytes() for one in made.pixels}) == COUNT
    assert np.array_equal(made.pixels, pixels)
    assert made.source == "10 synthetic images, BatchNorm statistics matched in 3 steps, seed 0"
    other = synthesize_images(*small, COUNT, 1, settings=QUICK)
    assert not np.array_equal(other.pixels, pixels)
    assert other.sha256 != made.sha256


def test_optimizing_brings_the_statistics_near(small: tuple[TinyViT, Preprocess]) -> None:
    noise = synthesize_images(*small, 4, settings=SyntheticConfig(4, 0)).pixels
    made = synthesize_images(*small, 4, settings=SyntheticConfig(4, 8)).pixels
    assert distance(*small, made) < distance(*small, noise) / 2


def test_the_network_is_left_as_it_was(small: tuple[TinyViT, Preprocess]) -> None:
    network, preprocess = small
    before = {name: value.clone() for name, value in network.state_dict().items()}
    synthesize_images(network, preprocess, 2, settings=QUICK)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in network.parameters())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_the_cache_spares_the_work(
    small: tuple[TinyViT, Preprocess], pixels: Pixels, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    for _ in range(2):
        made = synthesize_images(
            *small,
            COUNT,
            0,
            tmp_path / "new" / "cache",
            "k",
            lambda *step: steps.append(step),
            QUICK,
        )
        assert np.array_equal(made.pixels, pixels)
    assert steps == [(i + 1, 9) for i in range(9)]
    for changed in (
        {"seed": 1},
        {"key": "other"},
        {"count": 1},
        {"settings": SyntheticConfig(4, 1)},
    ):
        steps.clear()
        given = {"count": 2, "seed": 0, "key": "k", "settings": QUICK, **changed}
        synthesize_images(
            *small,
            **given,
            cache=tmp_path / "new" / "cache",
            progress=lambda *step: steps.append(step),
        )
        assert steps
    assert len(list((tmp_path / "new" / "cache").iterdir())) == 5


def test_stopped_and_called_again_it_goes_on(
    small: tuple[TinyViT, Preprocess], pixels: Pixels, tmp_path: Path
) -> None:
    steps: list[int] = []
    stops = [4, 8]

    def stop(done: int, _: int) -> None:
        steps.append(done)
        if done in stops:
            stops.remove(done)
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            synthesize_images(*small, COUNT, 0, tmp_path, "k", stop, QUICK)
    made = synthesize_images(
        *small, COUNT, 0, tmp_path, "k", lambda done, _: steps.append(done), QUICK
    )
    assert steps == [
        1,
        2,
        3,
        4,
        4,
        5,
        6,
        7,
        8,
        7,
        8,
        9,
    ]  # batches of three steps: the second and the third were begun again
    assert np.array_equal(made.pixels, pixels)


@pytest.mark.parametrize("damage", [b"", b"PK no zip", None])
def test_a_damaged_cache_is_made_anew(
    small: tuple[TinyViT, Preprocess], tmp_path: Path, damage: bytes | None
) -> None:
    wanted = synthesize_images(*small, 2, 0, tmp_path, "k", settings=QUICK)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    file.write_bytes(good[:5000] + bytes(50) + good[5050:] if damage is None else damage)
    assert synthesize_images(*small, 2, 0, tmp_path, "k", settings=QUICK).sha256 == wanted.sha256
    assert file.read_bytes()[:5050] == good[:5050]


def test_a_cache_of_other_images_is_made_anew(
    small: tuple[TinyViT, Preprocess], tmp_path: Path
) -> None:
    wanted = synthesize_images(*small, 2, 0, tmp_path, "k", settings=QUICK)
    (file,) = tmp_path.iterdir()
    for shape in ((3, 64, 64, 3), (2, 32, 32, 3)):
        np.savez(file, np.ones(shape, np.uint8))
        assert (
            synthesize_images(*small, 2, 0, tmp_path, "k", settings=QUICK).sha256 == wanted.sha256
        )


def test_a_cache_that_cannot_be_written_is_done_without(
    small: tuple[TinyViT, Preprocess], pixels: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert np.array_equal(
        synthesize_images(
            *small, COUNT, 0, tmp_path / "file" / "cache", "k", settings=QUICK
        ).pixels,
        pixels,
    )


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(32, 224, [16, 16]), (33, 224, [11, 11, 11]), (32, 64, [16, 16]), (6, 512, [3, 3])],
)
def test_batches_keep_memory_in_bounds(count: int, size: int, sizes: list[int]) -> None:
    assert synthetic._batches(count, size, SyntheticConfig()) == sizes
