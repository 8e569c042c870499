"""TensorRT: an .engine for NVIDIA's GPUs, and its manifest in a .json beside it, where native loaders do not meet it.

Two flavors. "rtx", TensorRT-RTX: built ahead of time, without a GPU, for x86-64 and RTX cards. "classic", TensorRT 10 and 11: for
Jetson and data centers, built on the device itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from tinyvit.errors import RequestError
from tinyvit.export.passes import onnx_preprocess as preprocess_onnx
from tinyvit.export.targets import BaseTarget, LoweredModel, TargetOption
from tinyvit.export.targets.tensorrt import engine_builder as plan_tensorrt
from tinyvit.export.targets.tensorrt import passes as tune_tensorrt
from tinyvit.manifest import Manifest, Precision, PreprocessStage
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes import cuda as nvidia
from tinyvit.runtimes.formats.sidecar import manifest_path

if TYPE_CHECKING:
    import onnx_ir as ir

    from tinyvit.export.tracing import Graph

FLAVORS = ("rtx", "classic")
TURING = "7.5"
RTX_COMPUTE = ("8.6", "8.9", "12.0")
"""What one TensorRT-RTX engine serves by NVIDIA's support matrix (Ampere, Ada, Blackwell); Turing needs an engine of its own."""

_SUFFIXES: dict[nvidia.Flavor, str] = {"rtx": ".rtx.engine", "classic": ".engine"}


@dataclass(frozen=True)
class TensorRtOptions:
    """How an engine is built. Raises RequestError for what the flavor cannot do.

    flavor: None is what is installed. compute: capabilities such as "8.6", none for RTX_COMPUTE ("classic" builds for its own GPU).
    timing_cache: a file with what earlier builds measured ("classic"); with one, builds repeat each other. version_compatible: for later
    releases too ("classic"); the lean runtime that opens it is not put into the file.
    """

    flavor: nvidia.Flavor | None = None
    compute: tuple[str, ...] = ()
    timing_cache: Path | None = None
    version_compatible: bool = False

    def __post_init__(self) -> None:
        if self.built_by not in nvidia.PRODUCTS:
            raise RequestError(
                f"TensorRT has no flavor {self.flavor!r}", f"use {' or '.join(nvidia.PRODUCTS)}"
            )
        able = (TURING, *RTX_COMPUTE)
        if self.built_by == "classic":
            if self.compute:
                raise RequestError(
                    "classic TensorRT builds for the GPU it runs on",
                    "leave the compute capabilities out, or use flavor rtx",
                )
        elif self.timing_cache is not None:
            raise RequestError(
                "TensorRT-RTX measures nothing as it builds", "leave the timing cache out"
            )
        elif self.version_compatible:
            raise RequestError(
                "TensorRT-RTX opens only engines of its own release",
                "leave version_compatible out, or use flavor classic",
            )
        elif unknown := [compute for compute in self.compute if compute not in able]:
            remedy = f"use {', '.join(able)}; Jetson and data centers need flavor classic"
            raise RequestError(f"TensorRT-RTX has no compute capability {unknown[0]} here", remedy)
        elif TURING in self.compute and len(self.compute) > 1:
            raise RequestError(
                "Turing (7.5) needs an engine of its own", "make one for 7.5 and one for the others"
            )

    @property
    def built_by(self) -> nvidia.Flavor:
        """The flavor, with what is installed where none was named."""
        return self.flavor or nvidia.installed_flavor()

    @property
    def computes(self) -> tuple[str, ...]:
        """The compute capabilities to build for; none is the GPU at hand."""
        return self.compute or (RTX_COMPUTE if self.built_by == "rtx" else ())


class TensorRtModel(LoweredModel):
    """A network ready to be built: what precision its floats have is known with the manifest."""

    def __init__(
        self, target: TensorRtTarget, graph: Graph, preprocess: Preprocess, stage: PreprocessStage
    ) -> None:
        self._target, self._graph, self._preprocess, self._stage = target, graph, preprocess, stage
        self._built: dict[bool, tuple[plan_tensorrt.EnginePlan, dict[str, int]]] = {}

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Build it, once for each precision, and write the .engine and its .json."""
        plan, _ = self._plan(manifest.precision)
        beside = manifest_path(path)
        beside.write_text(self.recorded(manifest).to_json(), encoding="utf-8")
        path.write_bytes(plan.data)
        return [beside, path]

    def recorded(self, manifest: Manifest) -> Manifest:
        """The manifest with what the plan was found to do with int8; unchanged for other precisions."""
        record = manifest.quantization
        if record is None or manifest.precision != "int8":
            return manifest
        note = self.note(manifest.precision)
        trials = (*(trial for trial in record.trials if trial != note), note)
        return replace(
            manifest,
            quantization=replace(
                record, int8_macs=round(self.int8_macs(manifest.precision), 4), trials=trials
            ),
        )

    def int8_macs(self, precision: Precision) -> float:
        """Share of the multiply-accumulates whose layer takes 8-bit integers, 0 to 1, by the plan's own account."""
        plan, macs = self._plan(precision)
        return sum(macs[node] for node in plan.integers(macs)) / max(1, sum(macs.values()))

    def notes(self, precision: Precision) -> tuple[str, ...]:
        """See `LoweredModel`."""
        return (self.note(precision),) if precision == "int8" else ()

    def note(self, precision: Precision) -> str:
        """One sentence for people: what became of the products."""
        plan, macs = self._plan(precision)
        options, count = self._target.settings, len(plan.integers(macs))
        product, made_for = (
            nvidia.PRODUCTS[options.built_by].name,
            ", ".join(options.computes) or "this GPU",
        )
        share = f"{self.int8_macs(precision):.1%} of the multiply-accumulates"
        found = f"{product} {plan.version} plans {count} of {len(macs)} products ({share}) in 8-bit integers, for compute capability {made_for}"
        if options.built_by == "classic" or precision != "int8":
            return found
        return f"{found}; NVIDIA's support matrix lists int8 for weights alone there, and kernels are chosen on the device: prefer --float16"

    def _plan(self, precision: Precision) -> tuple[plan_tensorrt.EnginePlan, dict[str, int]]:
        half, options = precision != "float32", self._target.settings
        if half not in self._built:
            model = self._target.model(self._graph, self._preprocess, self._stage, half)
            given = model.graph.inputs[0]
            assert given.shape is not None
            settings = plan_tensorrt.BuildConfig(
                flavor=options.built_by,
                compute=options.computes,
                timing_cache=options.timing_cache,
                version_compatible=options.version_compatible,
                input=given.name or "",
                shape=tuple(size for size in list(given.shape)[1:] if isinstance(size, int)),
                batch=self._graph.batch,
                exact=not half,
            )
            self._built[half] = (
                plan_tensorrt.build_engine(_serialized(model), settings),
                tune_tensorrt.product_macs(model),
            )
        return self._built[half]


class TensorRtTarget(BaseTarget):
    """See `Target`."""

    name = "tensorrt"
    aliases: tuple[str, ...] = ("trt", "engine")
    # Attention's products stay float16: one fused kernel, which rounds its result for the next layer; in int8 it wins nothing that shows.
    placement = QuantScheme("int8", biases="float32", attention=False)
    refused: ClassVar[dict[Precision | PreprocessStage, str]] = {
        "full": "TensorRT cannot resize as Pillow does"
    }
    proof = "graph"
    options = (
        TargetOption(
            "flavor",
            "rtx: built here without a GPU, for RTX cards; classic: built on the device; default what is installed",
            FLAVORS,
        ),
        TargetOption(
            "compute", "rtx: compute capabilities, such as 8.6,8.9; default 8.6,8.9,12.0; 7.5 alone"
        ),
        TargetOption(
            "timing_cache",
            "classic: a file that keeps what was measured, so that builds repeat each other",
        ),
        TargetOption(
            "version_compatible", "classic: whether later releases can open it", ("yes", "no")
        ),
    )

    def __init__(self, options: TensorRtOptions) -> None:
        product = nvidia.PRODUCTS[options.built_by]
        self.settings = options
        self.suffix = _SUFFIXES[options.built_by]
        self.extra = product.extra
        self.tools: tuple[str, ...] = ("torch", "onnx", "onnx-ir", "onnxscript", product.module)

    def configured(self, values: Mapping[str, str]) -> TensorRtTarget:
        """See `Target`."""
        cache = values.get("timing_cache")
        settings = TensorRtOptions(
            flavor=cast("nvidia.Flavor | None", values.get("flavor")),
            compute=tuple(
                filter(None, (one.strip() for one in values.get("compute", "").split(",")))
            ),
            timing_cache=None if cache is None else Path(cache),
            version_compatible=values.get("version_compatible") == "yes",
        )
        return TensorRtTarget(settings)

    def lower(self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage) -> TensorRtModel:
        """See `Target.lower`; the plan itself is built when it is saved.

        Raises RequestError for `stage` "full", and without a GPU where the flavor needs one.
        """
        nvidia.import_tensorrt(self.settings.built_by)
        self.refuse(stage, graph.batch)
        if self.settings.built_by == "classic":
            try:
                nvidia.CudaDevice().close()
            except (RequestError, nvidia.CudaError) as error:
                raise RequestError(
                    f"classic TensorRT builds on the device it is for, and here is none ({error})",
                    "run tinyvit-export on the device, or use flavor rtx for RTX cards, or give the device an .onnx",
                ) from error
        return TensorRtModel(self, graph, preprocess, stage)

    def stand_in(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage, precision: Precision
    ) -> bytes:
        """See `Target`: for onnxruntime to answer in TensorRT's stead where there is no GPU."""
        self.refuse(stage, graph.batch)
        return _serialized(self.model(graph, preprocess, stage, precision != "float32"))

    def model(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage, half: bool
    ) -> ir.Model:
        """The network as TensorRT is given it; half: with float16 inside."""
        if not half and TURING in self.settings.compute:
            raise RequestError(
                "TensorRT-RTX has no float32 products on Turing (7.5)", "use --float16 or --int8"
            )
        model = graph.onnx()
        tune_tensorrt.tune(model, half)
        preprocess_onnx.add(model, preprocess, stage)
        tune_tensorrt.cast_pixels_first(model)
        return model


def _serialized(model: ir.Model) -> bytes:
    """Without the constants that nothing reads any more, and checked."""
    import onnx
    import onnx_ir as ir
    import onnx_ir.passes.common as passes

    passes.RemoveUnusedNodesPass()(model)
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


TARGET = TensorRtTarget(TensorRtOptions())
