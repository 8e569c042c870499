"""Compares int8 model files with a float32 file in one engine, such as onnxruntime or OpenVINO.

The results are rows of a Markdown table with size, latency, accuracy and the share of
multiply-accumulates that run in integer kernels (integer share).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.bench.artifact_info import read_size_bytes
from tinyvit.bench.kernel_profile import profile_kernels
from tinyvit.bench.latency.interleave import median_ratio, run_interleaved
from tinyvit.bench.profilers import random_input
from tinyvit.data.class_folders import LabeledImages
from tinyvit.labels import Label
from tinyvit.metrics import compare_classes
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.registry import open_runtime
from tinyvit.studies.other_quantizers import ComparedFile

RUNS_PER_TURN = 7
"""Number of successive runs of one file before the other file runs. The first run is not timed."""
MAX_TIMING_S = 120
"""Seconds after which the alternating timing of an int8 file and the float32 file ends, even if
rounds are left."""

TopClasses: TypeAlias = "npt.NDArray[np.int64]"
"""The predicted class of every image, int64 (images,)."""


@dataclass(frozen=True)
class ComparisonConfig:
    """The images and settings with which every file is compared.

    Attributes:
        float32_path: The float32 artifact.
        images: Labeled images with which the accuracy is measured.
        preprocess: The preprocessing of the model.
        labels: The labels of the model.
        threads: Number of CPU threads.
        rounds: Number of timing rounds. In each round, the int8 and the float32 file have one turn
            of `RUNS_PER_TURN` runs each.
    """

    float32_path: Path
    images: LabeledImages
    preprocess: Preprocess
    labels: Sequence[Label]
    threads: int
    rounds: int


class EngineComparison:
    """Compares int8 files with the float32 file in one engine.

    An instance is a context manager, which closes the float32 file at the end.

    Attributes:
        top_classes: The predicted class of every image, by int8 file. `make_int8_row` adds the
            entry of its file.
    """

    def __init__(self, config: ComparisonConfig, engine: str) -> None:
        """Open the float32 file and predict the class of every image with it.

        Args:
            config: The images and settings.
            engine: Name of the engine.
        """
        self._config = config
        self._engine = engine
        self.top_classes: dict[ComparedFile, TopClasses] = {}
        self._float32_classes = self._predict(config.float32_path)
        self._float32_runtime = self._open(config.float32_path)

    def __enter__(self) -> EngineComparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._float32_runtime.close()

    def make_float32_row(self) -> str:
        """Measure the float32 file, and return its row: size, latency, accuracy, integer share."""
        config = self._config
        timings = run_interleaved(
            {"float32": _make_random_run(self._float32_runtime)},
            rounds=config.rounds,
            runs_per_turn=RUNS_PER_TURN,
            budget_s=MAX_TIMING_S / 2,  # because only one of the two files runs
        )
        is_correct = self._float32_classes == config.images.class_indices
        cells = (
            "float32",
            self._engine,
            f"{read_size_bytes(config.float32_path) / 1e6:.1f} MB",
            f"{timings['float32'].median_ms:.1f} ms",
            f"{is_correct.mean():.1%}",
            "",  # Float32 is not compared with itself: no worse / better, no agreement.
            "",
            f"{self._measure_integer_share(config.float32_path):.1%}",
        )
        return _format_row(cells)

    def make_int8_row(self, file: ComparedFile) -> str:
        """Compare an int8 file with the float32 file.

        Args:
            file: The int8 file, with the engine of this comparison as `engine`.

        Returns:
            The row of the int8 file. Size and latency are divided by those of the float32 file.
        """
        config = self._config
        with self._open(file.path) as runtime:
            timings = run_interleaved(
                {
                    "int8": _make_random_run(runtime),
                    "float32": _make_random_run(self._float32_runtime),
                },
                rounds=config.rounds,
                runs_per_turn=RUNS_PER_TURN,
                budget_s=MAX_TIMING_S,
            )
        classes = self._predict(file.path)
        self.top_classes[file] = classes
        comparison = compare_classes(classes, self._float32_classes, config.images.class_indices)
        cells = (
            file.name,
            self._engine,
            f"{read_size_bytes(file.path) / read_size_bytes(config.float32_path):.2f}",
            f"{median_ratio(timings['int8'], timings['float32']):.2f}",
            f"{comparison.top1:.1f}%",
            f"{comparison.worse} / {comparison.better}",
            f"{comparison.agreement:.1f}%",
            f"{self._measure_integer_share(file.path):.1%}",
        )
        return _format_row(cells)

    def _open(self, path: Path) -> Runtime:
        options = RuntimeOptions(threads=self._config.threads, allow_foreign_operators=True)
        return open_runtime(path, self._engine, options)

    def _predict(self, path: Path) -> TopClasses:
        """Predict the class of every image with a file."""
        config = self._config
        with Classifier(
            path,
            engine_name=self._engine,
            threads=config.threads,
            preprocess=config.preprocess,
            labels=config.labels,
        ) as classifier:
            return np.asarray(classifier.logits(config.images.files).argmax(1))

    def _measure_integer_share(self, path: Path) -> float:
        """Return the share of multiply-accumulates that the engine runs in integer kernels."""
        return profile_kernels(
            path, self._config.threads, self._engine, allow_foreign_operators=True
        ).integer_share


def _format_row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table. An empty cell becomes one space."""
    padded_cells = [f" {cell} " if cell else " " for cell in cells]
    return f"|{'|'.join(padded_cells)}|"


def _make_random_run(runtime: Runtime) -> partial[Any]:
    """Return a function that runs an open file once on the same random input."""
    spec = runtime.inputs[0]
    return partial(runtime.run, random_input(spec.shape, spec.dtype))
