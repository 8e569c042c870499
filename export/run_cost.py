"""Refuses, before calibration, a network that the runtimes would not open because it is too large.

A run with many images or at a large image size may need more memory or time than
`tinyvit.runtimes.inference_cost` and `tinyvit.runtimes.tensor_limits` allow. The same rules are
applied here, to the traced network, so that the export ends early and names the option to change.
"""

from __future__ import annotations

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.export.tracing import Graph, explain_tool_errors
from tinyvit.manifest import TensorSpec
from tinyvit.runtimes.formats.onnx_graph import read_graph
from tinyvit.runtimes.inference_cost import ASSUMED_BATCH_SIZE, check_inference_cost
from tinyvit.runtimes.tensor_limits import check_tensor_sizes

_SMALL_IMAGE_COUNT = 4
_SMALL_IMAGE_SIDE = 512
"""Images of up to 512 pixels are not checked if a run has no more pixels than 4 of them, because
the largest TinyViT with the largest windows needs 2.7 GiB for these, and the limit is 3."""


def check_batch_bytes(batch: int | None, img_size: int, num_classes: int) -> None:
    """Check the sizes of a network's input and output before it is traced.

    Args:
        batch: Images per call; None for a dynamic batch.
        img_size: Height and width of the input, in pixels.
        num_classes: Number of logits for each image.

    Raises:
        RequestError: The batch is too large for every runtime.
    """
    images = 1 if batch is None else batch
    image = TensorSpec("image", (images, 3, img_size, img_size), "float32", "NCHW")
    logits = TensorSpec("logits", (images, num_classes), "float32", "NC")
    try:
        check_tensor_sizes((image,), (logits,), "the artifact")
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
    is_small = images * graph.img_size**2 <= _SMALL_IMAGE_COUNT * _SMALL_IMAGE_SIDE**2
    if is_small and graph.img_size <= _SMALL_IMAGE_SIDE:
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


def _make_error(cause: str, batch: int | None, img_size: int) -> RequestError:
    """Make the error with the options that determine the size of a run.

    Args:
        cause: Why the runtimes refuse the artifact, as a clause.
        batch: Images per call; None for a dynamic batch.
        img_size: Height and width of the input, in pixels.
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
        f"{request} at {img_size} x {img_size} pixels is too much for a run: {cause}", remedy
    )
