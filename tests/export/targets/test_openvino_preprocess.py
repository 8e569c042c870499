"""The OpenVINO graph's preprocessing against the host's, on its CPU plugin, through a saved file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tinyvit.errors import RequestError
from tinyvit.preprocess import Preprocess

openvino = pytest.importorskip("openvino")

from tinyvit.export.targets.openvino import preprocess as preprocess_openvino  # noqa: E402
from tinyvit.runtimes.engines.openvino import shared_core  # noqa: E402

Array = npt.NDArray[np.generic]
Pixels = npt.NDArray[np.uint8]
Picture = Callable[[int, int], Pixels]
Levels = Callable[[Array, Pixels, Preprocess], Array]
Sizes = tuple[tuple[int, int], ...]
Photographs = Iterator[tuple[str, Pixels]]


def network(preprocess: Preprocess, batch: int = 1) -> openvino.Model:
    """A stand-in that gives back its input, so that what reaches the network can be seen. batch -1 is any."""
    from openvino import opset11 as op

    image = op.parameter(
        openvino.PartialShape([batch, 3, preprocess.size, preprocess.size]),
        openvino.Type.f32,
        name="image",
    )
    image.output(0).set_names({"image"})
    same = op.relu(op.negative(image))
    other = op.relu(image)
    result = op.result(op.subtract(other, same))
    return openvino.Model([result], [image], "network")


def runner(model: openvino.Model, folder: Path) -> Callable[[Array], Array]:
    openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    compiled = shared_core().compile_model(str(folder / "model.xml"), "CPU", settings)
    return lambda image: compiled({"image": image})[0]


def full(preprocess: Preprocess, folder: Path) -> Callable[[Array], Array]:
    return runner(preprocess_openvino.add(network(preprocess), preprocess, "full"), folder)


def test_full_is_the_hosts_within_a_level(
    preprocess: Preprocess, tmp_path: Path, picture: Picture, levels: Levels, sizes: Sizes
) -> None:
    run = full(preprocess, tmp_path)
    for size in sizes:
        pixels = picture(*size)
        apart = levels(run(pixels[None]), pixels, preprocess)
        # A pixel rounded the other way in the first of two passes can be two levels off after the second: once in a million.
        assert apart.max() <= 2, size
        assert (apart > 1).sum() <= 2, size
        # Sizes in a ratio such as 5 : 3 make exact halves, which the last bit of a weight then rounds up or down.
        assert (apart > 0).mean() < 0.03, size


def test_a_large_picture(tmp_path: Path, picture: Picture, levels: Levels) -> None:
    preprocess = Preprocess(224, 235)
    pixels = picture(1500, 2000)
    apart = levels(full(preprocess, tmp_path)(pixels[None]), pixels, preprocess)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.001


def test_photographs(tmp_path: Path, levels: Levels, photographs: Photographs) -> None:
    preprocess = Preprocess(224, 235)
    run = full(preprocess, tmp_path)
    for name, pixels in photographs:
        apart = levels(run(pixels[None]), pixels, preprocess)
        assert apart.max() <= 1, name
        assert (apart > 0).mean() < 0.001, name


def test_a_new_size_costs_no_compilation(tmp_path: Path, picture: Picture) -> None:
    """OpenVINO's Interpolate takes a second for each size of picture that it has not seen (see the module)."""
    run = full(Preprocess(224, 235), tmp_path)
    run(picture(374, 499)[None])
    begin = time.perf_counter()
    for height in range(375, 385):
        run(picture(height, 500)[None])
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(("batch", "images"), [(1, 1), (3, 3), (-1, 2)])
def test_normalize_is_the_hosts(batch: int, images: int, tmp_path: Path) -> None:
    preprocess = Preprocess(32, 34)
    model = preprocess_openvino.add(network(preprocess, batch), preprocess, "normalize")
    assert model.input("image").get_partial_shape() == openvino.PartialShape([batch, 32, 32, 3])
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), np.uint8)
    # Not bit for bit: the plugin multiplies and subtracts in one rounding.
    np.testing.assert_allclose(
        runner(model, tmp_path)(pixels), preprocess.normalize(pixels), atol=1e-6
    )


def test_host_changes_nothing() -> None:
    model = network(Preprocess(32, 34))
    assert preprocess_openvino.add(model, Preprocess(32, 34), "host") is model
    assert model.input("image").get_element_type() == openvino.Type.f32


def test_an_open_batch_becomes_one_picture(tmp_path: Path, picture: Picture) -> None:
    preprocess = Preprocess(32, 34)
    model = preprocess_openvino.add(network(preprocess, -1), preprocess, "full")
    assert model.input("image").get_partial_shape() == openvino.PartialShape([1, -1, -1, 3])
    assert model.output(0).get_partial_shape() == openvino.PartialShape([1, 3, 32, 32])
    assert runner(model, tmp_path)(picture(50, 40)[None]).shape == (1, 3, 32, 32)


def test_half_to_even_as_python_rounds(tmp_path: Path, picture: Picture, levels: Levels) -> None:
    """A picture of 32 x (32 + e) is not resized, so that the crop's place is seen alone."""
    preprocess = Preprocess(32, 32)
    run = full(preprocess, tmp_path)
    for excess in range(9):
        for size in ((32, 32 + excess), (32 + excess, 32)):
            pixels = picture(*size)
            assert not levels(run(pixels[None]), pixels, preprocess).any(), size


@pytest.mark.parametrize(
    ("preprocess", "size", "batch", "says"),
    [
        (Preprocess(32, 34, interpolation="lanczos"), 32, 1, "lanczos"),
        (Preprocess(32, 34), 32, 4, "takes 4"),
        (Preprocess(48, 50), 32, 1, "48"),
    ],
)
def test_refusals(preprocess: Preprocess, size: int, batch: int, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        preprocess_openvino.add(network(Preprocess(size, size), batch), preprocess, "full")
