"""Refuses, before calibration, a network that the runtimes would not open because it is too large.

A run with many images or at a large image size may need more memory or time than
`tinyvit.runtimes.network_analysis.inference_cost` and `tinyvit.runtimes.tensor_limits` allow. The
same rules are applied here, to the traced network, so that the export ends early and names the
option to change.
"""

from __future__ import annotations

from dataclasses import replace

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.export.tracing import Graph, explain_tool_errors
from tinyvit.image_sizes import ImageSize, describe_size, height_and_width
from tinyvit.manifest_parts import OutputSpec, TensorSpec
from tinyvit.runtimes.formats.onnx_graph import read_graph
from tinyvit.runtimes.network_analysis.inference_cost import (
    ASSUMED_BATCH_SIZE,
    check_inference_cost,
)
from tinyvit.runtimes.tensor_limits import check_tensor_sizes

_SMALL_IMAGE_COUNT = 4
_SMALL_IMAGE_SIDE = 512
"""Images of up to 512 pixels are not checked if a run has no more pixels than 4 of them, because
the largest TinyViT with the largest windows needs 2.7 GiB for these, and the limit is 3."""


def check_batch_bytes(
    batch: int | None, img_size: ImageSize, outputs: tuple[OutputSpec, ...]
) -> None:
    """Check the sizes of a network's input and outputs before it is traced.

    Args:
        batch: Images per call; None for a dynamic batch.
        img_size: Size of the input, in pixels.
        outputs: What the network returns.

    Raises:
        RequestError: The batch is too large for every runtime.
    """
    images = 1 if batch is None else batch
    image = TensorSpec("image", (images, 3, *height_and_width(img_size)), "float32", "NCHW")
    sized = tuple(replace(spec, shape=(images, *spec.shape[1:])) for spec in outputs)
    try:
        check_tensor_sizes((image,), sized, "the artifact")
    except ArtifactError as error:
        raise _make_error(error.cause, batch, img_size) from error


def explain_run_cost(graph: Graph) -> RequestError | None:
    """Explain why the runtimes would refuse a network that needs too much memory or time.

    Args:
        graph: The traced float32 network. An int8 network needs about as much for each image.

    Returns:
        The error to raise or to report; None if the runtimes open the network.

    Raises:
        ArtifactError: torch cannot express the network in ONNX.
    """
    images = ASSUMED_BATCH_SIZE if graph.batch is None else graph.batch
    height, width = height_and_width(graph.img_size)
    is_small = images * height * width <= _SMALL_IMAGE_COUNT * _SMALL_IMAGE_SIDE**2
    if is_small and max(height, width) <= _SMALL_IMAGE_SIDE:
        return None
    model = graph.to_onnx()
    with explain_tool_errors("writing the network as ONNX"):
        import onnx_ir as ir

        network = read_graph(memoryview(ir.serde.serialize_model(model).SerializeToString()))
    try:
        check_inference_cost(network, "the artifact")
    except ArtifactError as error:
        return _make_error(error.cause, graph.batch, graph.img_size)
    return None


def _make_error(cause: str, batch: int | None, img_size: ImageSize) -> RequestError:
    """Make the error with the options that determine the size of a run.

    Args:
        cause: Why the runtimes refuse the artifact, as a clause.
        batch: Images per call; None for a dynamic batch.
        img_size: Size of the input, in pixels.
    """
    if batch is None:
        request = f"--dynamic-batch, which counts as {ASSUMED_BATCH_SIZE} images,"
        remedy = "give --batch 1, a smaller --img-size, or --windows checkpoint"
    elif batch > 1:
        request = f"--batch {batch}"
        remedy = "give a smaller --batch, or --dynamic-batch for any number of images"
    else:
        request = "one image"
        remedy = "give a smaller --img-size, or --windows checkpoint"
    return RequestError(
        f"{request} at {describe_size(img_size)} pixels is too much for a run: {cause}", remedy
    )
