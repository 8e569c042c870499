"""The target "rknn": files for the NPUs of Rockchip's chips, compiled by rknn-toolkit2.

The toolkit has an environment of its own and runs in another process
(`tinyvit.runtimes.rockchip.toolkit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinyvit import golden
from tinyvit.errors import TinyViTError
from tinyvit.export.passes.onnx_serialization import serialize_checked
from tinyvit.export.passes.product_macs import count_product_macs
from tinyvit.export.targets import Feature, Target, check_supported
from tinyvit.export.targets.rknn.attention import transpose_scores
from tinyvit.export.targets.rknn.float16_ranges import find_largest_value
from tinyvit.export.targets.rknn.options import RKNN_OPTIONS, RknnOptions, parse_options
from tinyvit.export.targets.rknn.passes import add_batch_axis_to_norms, remove_quantizers
from tinyvit.export.targets.rknn.writer import RknnModel
from tinyvit.image_sizes import ImageSize, height_and_width
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.engines.rknn_simulator import open_in_simulator
from tinyvit.runtimes.rockchip import chips
from tinyvit.runtimes.rockchip.toolkit import ToolkitRequest, compile_network

if TYPE_CHECKING:
    import onnx_ir as ir

    from tinyvit.export.tracing import Graph

_PREPROCESSING_REASON = "the file takes normalized images"


class RknnTarget(Target):
    """The target for Rockchip's NPUs, which makes .rknn files.

    Attributes:
        rknn_options: How the files are made.
    """

    name = "rknn"
    engine_title = "a Rockchip NPU"
    aliases = ("rockchip",)
    extra = "rknn"
    tools = ("torch", "onnx", "onnx-ir", "onnxscript")
    scheme = QuantScheme(activations="uint8", every_tensor=True)
    unsupported: Mapping[Feature, str] = {
        "float32": "Rockchip's NPUs compute in float16 or in integers",
        "int8-weights": "a Rockchip NPU that multiplies int8 weights needs integer activations",
        "normalize": _PREPROCESSING_REASON,
        "full": _PREPROCESSING_REASON,
    }
    batch_sizes = "one"
    parity_method = "reference"
    reference_engine = "rknn-simulator"
    options = RKNN_OPTIONS

    def __init__(self, rknn_options: RknnOptions) -> None:
        """Make the target for the chips of its options.

        Args:
            rknn_options: How the files are made.
        """
        self.rknn_options = rknn_options
        self.suffix = f".{rknn_options.chips[0].name}.rknn"

    def with_options(self, values: Mapping[str, str]) -> RknnTarget:
        """Return the target for other options; see `Target.with_options`."""
        return RknnTarget(parse_options(values))

    def split(self) -> tuple[RknnTarget, ...]:
        """Return one target for each chip; see `Target.split`."""
        chips = self.rknn_options.chips
        if len(chips) == 1:
            return (self,)
        return tuple(RknnTarget(replace(self.rknn_options, chips=(chip,))) for chip in chips)

    def explain_machine(self) -> TinyViTError | None:
        """Explain that no Python with the toolkit is known; see `Target.explain_machine`."""
        return chips.explain_missing_python(self.rknn_options.python)

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> RknnModel:
        """Compile the network; see `Target.lower`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        python = chips.find_python(self.rknn_options.python)
        model = make_onnx_model(graph)
        chip = self.rknn_options.chips[0]
        ranges = remove_quantizers(model) if precision == "int8" else None
        add_batch_axis_to_norms(model)
        if precision == "int8" and not chip.fuses_attention:
            transpose_scores(model)
        images = make_test_images(graph.img_size, preprocess)
        request = ToolkitRequest(
            serialize_checked(model),
            chip,
            analysis_image=images[0],
            ranges=ranges,
            range_images=images,
        )
        largest_value = None
        if ranges is None:
            largest_value = find_largest_value(request.network, images)
        return RknnModel(
            request=request,
            compiled=compile_network(request, python),
            macs=count_product_macs(model),
            largest_value=largest_value,
        )

    def make_parity_model(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> bytes:
        """Make the network with its quantize operators; see `Target.make_parity_model`.

        The accuracy of int8 is measured with it in onnxruntime, because the simulator is slow.
        """
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        return serialize_checked(graph.to_onnx())

    def open_reference(self, artifact: Artifact) -> Runtime:
        """Open an artifact in the simulator; see `Target.open_reference`."""
        return open_in_simulator(artifact, RuntimeOptions(), self.rknn_options.python)


def make_onnx_model(graph: Graph) -> ir.Model:
    """Make the network in an opset that the toolkit reads.

    Args:
        graph: The traced network.

    Returns:
        A float32 model.
    """
    # The default opset has GELU as one operator; older ones have its parts, which the toolkit
    # recognizes.
    return replace(graph, opset=min(graph.opset, chips.MAX_OPSET)).to_onnx()


def make_test_images(img_size: ImageSize, preprocess: Preprocess) -> list[npt.NDArray[np.float32]]:
    """Make normalized test images: the golden inputs of float artifacts.

    Args:
        img_size: Size of the network's input.
        preprocess: The preprocessing that belongs to the network.

    Returns:
        Arrays, float32 (1, 3, height, width).
    """
    height, width = height_and_width(img_size)
    images = (golden.make_golden_input(pattern, height, width) for pattern in golden.CHIRP_PATTERNS)
    return [preprocess.normalize(image)[None] for image in images]


TARGET = RknnTarget(RknnOptions())
