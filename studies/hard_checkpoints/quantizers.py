"""Quantizes one checkpoint with several tools, and measures the accuracy of each int8 file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from tinyvit.bench.kernel_profile import profile_kernels
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.export import ExportConfig, export
from tinyvit.manifest import Manifest
from tinyvit.metrics import PairedComparison, compare_logits
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.timm_models import export_with_torch
from tinyvit.progress import Progress
from tinyvit.quant.accuracy_budget import (
    AccuracyBudget,
    ArtifactOutputs,
    run_artifact,
)
from tinyvit.quant.config import QuantizationConfig
from tinyvit.quant.images.validation_data import ValidationSet, read_validation_set
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.registry import open_runtime
from tinyvit.studies.other_quantizers import (
    ComparedFile,
    quantize_with_nncf,
    quantize_with_onnxruntime,
    read_calibration_inputs,
)

THREADS = 2
"""Number of CPU threads."""
Quantizers: TypeAlias = 'Literal["all", "others", "own"]'
"""Which quantizers are compared: all, those of other projects, or our own."""
QUANTIZERS: tuple[Quantizers, ...] = ("all", "others", "own")
NNCF = "nncf"
"""Name of the quantizer that is left out if it is not installed."""


@dataclass(frozen=True)
class QuantizationResult:
    """The accuracy of one quantizer on one checkpoint.

    Attributes:
        quantizer: Name of the quantizer and its settings.
        engine: Name of the engine that ran the file; "" if there is no file.
        comparison: Comparison with the float32 file in the same engine; None if there is no file.
        integer_share: Share of the multiply-accumulates that ran in integer kernels, 0 to 1.
        is_default: Whether the quantizer is another tool, whose loss makes a checkpoint hard.
        note: Why there is no file, or how many units stayed in float32; else "".
    """

    quantizer: str
    engine: str = ""
    comparison: PairedComparison | None = None
    integer_share: float = 0.0
    is_default: bool = False
    note: str = ""

    @property
    def loss(self) -> float | None:
        """Return the percentage points of top-1 that were lost, or None if there is no file."""
        return None if self.comparison is None else self.comparison.drop


@dataclass(frozen=True)
class QuantizerConfig:
    """The images and settings with which every checkpoint is quantized.

    Attributes:
        calib_data: Folder of images for calibration.
        val_data: Labeled images, in folders named by WordNet id or label.
        calib_count: Number of calibration images.
        targets: Export targets of our own quantizer, such as "onnx".
        max_drop: Percentage points that our budget search allows.
        quantizers: Which quantizers are compared.
    """

    calib_data: Path
    val_data: Path
    calib_count: int = 256
    targets: tuple[str, ...] = ("onnx",)
    max_drop: float = 0.5
    quantizers: Quantizers = "all"


class CheckpointComparison:
    """Quantizes one checkpoint with every tool."""

    def __init__(
        self, checkpoint_path: Path, config: QuantizerConfig, folder: Path, progress: Progress
    ) -> None:
        """Export the float32 files of the checkpoint, and measure them.

        Args:
            checkpoint_path: The checkpoint, at its own image size.
            config: The images and settings.
            folder: An existing folder for all files.
            progress: Receives the messages of exports.
        """
        self._config, self._folder, self._progress = config, folder, progress
        self._checkpoint_path = checkpoint_path
        float32 = export(
            ExportConfig(checkpoint=checkpoint_path, output_path=folder / "float32.onnx")
        )
        self._manifest: Manifest = float32.manifest
        self._images: ValidationSet = read_validation_set(
            config.val_data, self._manifest.preprocess, self._manifest.labels
        )
        self._float32_path = float32.path
        self._float32_outputs: dict[str, ArtifactOutputs] = {}

    def run(self) -> Iterator[QuantizationResult]:
        """Quantize with every tool.

        Yields:
            The result of each quantizer, as soon as it is measured.
        """
        if self._config.quantizers != "own":
            yield from self._run_other_tools()
        if self._config.quantizers != "others":
            for target in self._config.targets:
                yield from self._run_own_quantizer(target)

    def _run_other_tools(self) -> Iterator[QuantizationResult]:
        """Quantize the file of torch.onnx.export with the defaults of onnxruntime and nncf."""
        checkpoint = load_checkpoint(self._checkpoint_path)
        stock_path = self._folder / "stock.onnx"
        with redirect_stdout(sys.stderr):
            export_with_torch(checkpoint.build(), checkpoint.img_size, stock_path)
            inputs = read_calibration_inputs(
                self._config.calib_data, checkpoint.preprocess, self._config.calib_count
            )
        for per_channel, name in ((False, "per tensor (its default)"), (True, "per channel")):
            with redirect_stdout(sys.stderr):
                file = quantize_with_onnxruntime(stock_path, inputs, self._folder, per_channel)
            yield self._measure(replace(file, name=f"onnxruntime, {name}"))
        try:
            with redirect_stdout(sys.stderr):
                files = quantize_with_nncf(stock_path, inputs, self._folder)
        except MissingDependencyError:
            yield QuantizationResult(NNCF, is_default=True, note="not installed")
            return
        for file in files:
            yield self._measure(file)

    def _measure(self, file: ComparedFile) -> QuantizationResult:
        """Measure a file that another tool made."""
        reference = self._run_float32(file.engine)
        comparison = compare_logits(
            self._run_file(file.path, file.engine).logits,
            reference.logits,
            reference.correct_classes,
        )
        share = profile_kernels(file.path, THREADS, file.engine).integer_share
        return QuantizationResult(file.name, file.engine, comparison, share, is_default=True)

    def _run_float32(self, engine: str) -> ArtifactOutputs:
        """Return the outputs of the float32 file, which runs once in each engine."""
        if engine not in self._float32_outputs:
            self._float32_outputs[engine] = self._run_file(self._float32_path, engine)
        return self._float32_outputs[engine]

    def _run_file(self, path: Path, engine: str) -> ArtifactOutputs:
        """Run a file on all validation images."""
        options = RuntimeOptions(threads=THREADS, allow_foreign_operators=True)
        with open_runtime(path, engine, options) as runtime:
            return run_artifact(runtime, self._manifest, self._images.batches)

    def _run_own_quantizer(self, target: str) -> Iterator[QuantizationResult]:
        """Export int8 without and, if it misses the budget, with the budget search."""
        result = self._export(target, searches=False)
        yield result
        budget = AccuracyBudget(max_drop=self._config.max_drop)
        assert result.comparison is not None
        if budget.allows(result.comparison):
            note = "within the budget without a search"
            yield replace(result, quantizer=f"tinyvit, {target}, budget search", note=note)
            return
        try:
            yield self._export(target, searches=True)
        except RequestError as error:
            name = f"tinyvit, {target}, budget search"
            yield QuantizationResult(name, note=error.cause.splitlines()[0])

    def _export(self, target: str, searches: bool) -> QuantizationResult:
        """Export int8 with our quantizer; both exports of a checkpoint share one recipe."""
        config = self._config
        quantization = QuantizationConfig(
            calib_data=config.calib_data,
            calib_count=config.calib_count,
            recipe=self._folder / "recipe.json",
            val_data=config.val_data,
            budget=AccuracyBudget(max_drop=config.max_drop),
            force=not searches,
        )
        kind = "budget search" if searches else "no search"
        artifact = export(
            ExportConfig(
                checkpoint=self._checkpoint_path,
                targets=(target,),
                output_path=f"{self._folder / kind.replace(' ', '-')}/",
                overwrite=True,
                quantization=quantization,
            ),
            self._progress,
        )
        assert artifact.search is not None
        comparison = artifact.search.comparison
        assert isinstance(comparison, PairedComparison)
        float_units = len(artifact.search.recipe.float_units)
        return QuantizationResult(
            f"tinyvit, {target}, {kind}",
            artifact.engine.engine,
            comparison,
            artifact.search.integer_kernel_share or 0.0,
            note=f"{float_units} units in float32" if float_units else "",
        )
