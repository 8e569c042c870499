"""The target "tensorrt": an .engine file for NVIDIA's GPUs.

There are two flavors. "rtx" is TensorRT-RTX, for RTX cards on x86-64; its engines are built ahead
of time, without a GPU. "classic" is TensorRT 10 and 11, for Jetson and data centers; its engines
are built on the device itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tinyvit.errors import RequestError
from tinyvit.export.passes.onnx_preprocess import add_preprocessing
from tinyvit.export.passes.onnx_serialization import serialize_checked
from tinyvit.export.passes.product_macs import count_product_macs
from tinyvit.export.targets import Feature, Target, check_supported
from tinyvit.export.targets.tensorrt.engine_builder import BuildConfig, build_engine
from tinyvit.export.targets.tensorrt.options import (
    TENSORRT_OPTIONS,
    TURING,
    TensorRtOptions,
    parse_options,
)
from tinyvit.export.targets.tensorrt.passes import (
    cast_pixels_first,
    rewrite_for_tensorrt,
)
from tinyvit.export.targets.tensorrt.writer import TensorRtModel
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes import cuda

if TYPE_CHECKING:
    import onnx_ir as ir

    from tinyvit.export.tracing import Graph

_SUFFIXES: dict[cuda.Flavor, str] = {"rtx": ".rtx.engine", "classic": ".engine"}
"""Flavor -> suffix of its files."""


class TensorRtTarget(Target):
    """The TensorRT target, which makes .engine files.

    Attributes:
        build_options: How engines are built.
    """

    name = "tensorrt"
    engine_title = "TensorRT"
    aliases = ("trt", "engine")
    # TensorRT takes only float biases. Attention's matrix products stay float16, because TensorRT
    # fuses them into one kernel, which quantizes its result for the next layer; int8 products would
    # gain nothing measurable.
    scheme = QuantScheme(activations="int8", biases="float32", attention=False)
    unsupported: Mapping[Feature, str] = {"full": "TensorRT cannot resize as Pillow does"}
    parity_method = "graph"
    has_run_cost_limit = False
    options = TENSORRT_OPTIONS

    def __init__(self, build_options: TensorRtOptions) -> None:
        """Make the target for one flavor.

        Args:
            build_options: How engines are built.
        """
        product = cuda.PRODUCTS[build_options.resolved_flavor]
        self.build_options = build_options
        self.suffix = _SUFFIXES[build_options.resolved_flavor]
        self.extra = product.extra
        self.tools = ("torch", "onnx", "onnx-ir", "onnxscript", product.module)

    def with_options(self, values: Mapping[str, str]) -> TensorRtTarget:
        """Return the target for other build options; see `Target.with_options`."""
        return TensorRtTarget(parse_options(values))

    def explain_machine(self) -> RequestError | None:
        """Explain that classic TensorRT needs a GPU; see `Target.explain_machine`."""
        return _explain_gpu() if self.build_options.resolved_flavor == "classic" else None

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> TensorRtModel:
        """Build the engine; see `Target.lower`.

        If the flavor needs a GPU to build and there is none, RequestError is raised.
        """
        cuda.import_tensorrt(self.build_options.resolved_flavor)
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        machine_error = self.explain_machine()
        if machine_error is not None:
            raise machine_error
        model = self.make_onnx_model(graph, preprocess, embedded_preprocessing, precision)
        plan = build_engine(
            _serialize(model), _make_build_config(self.build_options, model, graph.batch, precision)
        )
        return TensorRtModel(plan, count_product_macs(model), self.build_options)

    def make_parity_model(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> bytes:
        """Make the ONNX model that the builder reads; see `Target.make_parity_model`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        return _serialize(
            self.make_onnx_model(graph, preprocess, embedded_preprocessing, precision)
        )

    def make_onnx_model(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> ir.Model:
        """Make the network in the form that TensorRT reads.

        Args:
            graph: See `lower`.
            preprocess: See `lower`.
            embedded_preprocessing: "host" or "normalize".
            precision: For "float32", the network computes in float32; for all others, in float16,
                and in int8 where it is quantized.

        Returns:
            An ONNX model that other engines can read too.

        Raises:
            RequestError: TensorRT cannot build the network in this precision.
        """
        if precision == "float32" and TURING in self.build_options.compute:
            raise RequestError(
                f"TensorRT-RTX has no float32 products on Turing (compute capability {TURING})",
                "use --float16 or --int8",
            )
        model = graph.to_onnx()
        rewrite_for_tensorrt(model, use_float16=precision != "float32")
        add_preprocessing(model, preprocess, embedded_preprocessing)
        cast_pixels_first(model)
        return model


def _explain_gpu() -> RequestError | None:
    """Return an error if this machine has no GPU for classic TensorRT to build on."""
    try:
        cuda.CudaDevice().close()
    except (RequestError, cuda.CudaError) as error:
        return RequestError(
            "classic TensorRT builds engines on the device that will run them, and this machine "
            f"has no usable GPU ({error})",
            "run tinyvit-export on the device, or use --flavor rtx for RTX cards, or copy an "
            ".onnx file to the device",
        )
    return None


def _make_build_config(
    options: TensorRtOptions, model: ir.Model, batch: int | None, precision: Precision
) -> BuildConfig:
    """Make the settings of the build, with the input's name and shape."""
    image = model.graph.inputs[0]
    assert image.shape is not None
    image_shape = tuple(size for size in list(image.shape)[1:] if isinstance(size, int))
    return BuildConfig(
        options, image.name or "", image_shape, batch, allow_tf32=precision != "float32"
    )


def _serialize(model: ir.Model) -> bytes:
    """Remove unused constants, check the model and serialize it."""
    import onnx_ir.passes.common as passes

    passes.RemoveUnusedNodesPass()(model)
    return serialize_checked(model)


TARGET = TensorRtTarget(TensorRtOptions())
