"""int8 against float32: what quantized files weigh, how fast and how right they are, beside those of other tools.

    python -m tinyvit.studies.int8_comparison FLOAT.onnx INT8.onnx [INT8.xml ...] --val-data DIR [--calib-data DIR --peers] [--out FILE]

Every file runs in each installed engine that opens it, beside the float32 file in the same engine. With --peers also: timm's
model of the same weights, through the stock exporter, quantized by nncf and by onnxruntime at their defaults.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tinyvit
from tinyvit.bench.kernel_profile import profile_kernels
from tinyvit.bench.latency.interleave import median_ratio, run_interleaved
from tinyvit.bench.machine import describe_cpu
from tinyvit.bench.profilers import random_input
from tinyvit.cli import make_parser, run_guarded
from tinyvit.data.listing import list_images
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.images import open_image
from tinyvit.labels import Label
from tinyvit.manifest import Manifest
from tinyvit.nn.timm_models import import_timm, stock_export
from tinyvit.output_capture import quiet_loggers
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import detect_format, open_artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.engines.openvino import shared_core
from tinyvit.runtimes.registry import engines_for_format, is_installed, open_runtime
from tinyvit.studies.peers import check_installed

_EXAMPLES = """\
  python -m tinyvit.studies.int8_comparison demo.onnx demo-int8.onnx demo-int8.xml --val-data val
  python -m tinyvit.studies.int8_comparison demo.onnx demo-int8.onnx --val-data val --calib-data train --peers --out int8.md"""
_HEAD = """\
| file | engine | size | time | top-1 | worse / better | agreement | integer MACs |
|---|---|---|---|---|---|---|---|"""
_DEMO = Path(tinyvit.__file__).with_name("data") / "demo.safetensors"
_SAME = 1e-3
"""Largest difference of the logits of one network, exported twice."""
_CALIBRATION = 300
"""Pictures that the peers see: nncf's default, and onnxruntime has none."""
_BUDGET_S = 120


@dataclass(frozen=True)
class LabeledImages:
    """Pictures of known classes: paths, and the class of each as an int64 array of the same length."""

    paths: tuple[Path, ...]
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ComparedFile:
    """A quantized file in one engine."""

    name: str
    path: Path
    engine: str


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = make_parser(
        "python -m tinyvit.studies.int8_comparison",
        "int8 files against float32: size, time, accuracy, integer kernels.",
        _EXAMPLES,
    )
    made.add_argument(
        "float32",
        type=Path,
        metavar="FLOAT.onnx",
        help="the float32 file that all are compared with",
    )
    made.add_argument(
        "int8",
        type=Path,
        nargs="+",
        metavar="INT8",
        help="int8 files of the same model (.onnx, .xml)",
    )
    made.add_argument(
        "--val-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="pictures in folders named by WordNet id",
    )
    made.add_argument(
        "--peers",
        action="store_true",
        help="also other tools' int8; needs timm, torchvision and nncf",
    )
    made.add_argument(
        "--calib-data", type=Path, metavar="DIR", help="pictures that the peers are calibrated on"
    )
    made.add_argument(
        "--weights",
        type=Path,
        default=_DEMO,
        metavar="FILE",
        help="the peers' weights; default the demo's",
    )
    made.add_argument(
        "--rounds", type=int, default=60, help="turns of each, of six timed runs; default 60"
    )
    made.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    made.add_argument("--out", type=Path, metavar="FILE", help="write the table to this file too")
    options = made.parse_args(argv)
    return run_guarded(lambda: _table(options))


def _table(options: argparse.Namespace) -> int:
    manifest = open_artifact(options.float32).manifest
    if manifest is None or manifest.precision != "float32":
        raise ArtifactError(
            f"{options.float32} is no float32 file of tinyvit-export",
            "give one, made of the same weights",
        )
    if options.peers and options.calib_data is None:
        raise RequestError("--peers has nothing to calibrate on", "give --calib-data too")
    images = labeled(options.val_data, manifest.labels)
    told = f"{describe_cpu()}; {options.threads} threads, batch 1, up to {options.rounds} alternating turns of 6 runs"
    lines = [f"{told}; {len(images.paths)} pictures\n", _HEAD]
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            ComparedFile(path.name, path, engine)
            for path in options.int8
            for engine in _engines(path)
        ]
        if options.peers:
            runs += _peers(options, manifest, Path(folder))
        print("\n".join(lines), flush=True)
        compare = partial(Comparison, options, images, manifest.preprocess, manifest.labels)
        answers: dict[ComparedFile, npt.NDArray[np.int64]] = {}
        for engine in dict.fromkeys(run.engine for run in runs):
            with compare(engine) as comparison:
                mine = (comparison.row(run) for run in runs if run.engine == engine)
                for line in chain(
                    [comparison.base()], mine
                ):  # each printed as soon as it is measured
                    print(line, flush=True)
                    lines.append(line)
                answers.update(comparison.answers)
    for line in _between_engines({run: answers[run] for run in runs if run.path in options.int8}):
        print(line)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _between_engines(answers: Mapping[ComparedFile, npt.NDArray[np.int64]]) -> list[str]:
    """How often two runs of the same or of different files, in different engines, give the same answer."""
    pairs = [(a, b) for a, b in combinations(answers, 2) if a.engine != b.engine]
    told = [
        f"- {a.name} in {a.engine} and {b.name} in {b.engine}: {(answers[a] == answers[b]).mean():.1%}"
        for a, b in pairs
    ]
    return ["\nThe same answer:\n", *told] if told else []


def labeled(folder: Path, labels: Sequence[Label]) -> LabeledImages:
    """The pictures in the subfolders of `folder` whose names are classes' WordNet ids; raises RequestError where one is not."""
    index = {label.wnid: i for i, label in enumerate(labels) if label.wnid}
    paths = list_images(folder)
    wnids = [path.relative_to(folder).parts[0] for path in paths]
    strange = sorted({wnid for wnid in wnids if wnid not in index})
    if strange:
        raise RequestError(
            f"{folder / strange[0]} is no class of the model",
            "give a folder with one folder a class, named by WordNet id",
        )
    return LabeledImages(tuple(paths), np.array([index[wnid] for wnid in wnids]))


def _engines(path: Path) -> list[str]:
    return [engine for engine in engines_for_format(detect_format(path)) if is_installed(engine)]


class Comparison:
    """Files against the float32 one, in one engine; a context manager that closes it. answers: the best class of every picture,
    by every run that has had its row."""

    def __init__(
        self,
        options: argparse.Namespace,
        images: LabeledImages,
        preprocess: Preprocess,
        labels: Sequence[Label],
        engine: str,
    ) -> None:
        self._options, self._images, self._engine = options, images, engine
        self._open = partial(
            Classifier,
            runtime=engine,
            threads=options.threads,
            preprocess=preprocess,
            labels=labels,
        )
        self.answers: dict[ComparedFile, npt.NDArray[np.int64]] = {}
        self._best = self._answers(options.float32)
        self._runtime = open_runtime(
            options.float32, engine, RuntimeOptions(threads=options.threads)
        )

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._runtime.close()

    def base(self) -> str:
        """The float32 file's own line."""
        run = _timed(self._runtime)
        median = run_interleaved(
            {"float32": run}, rounds=self._options.rounds, block=7, budget_s=_BUDGET_S / 2
        )["float32"].median_ms
        share = profile_kernels(self._options.float32, self._options.threads, self._engine).share
        size, right = (
            _size(self._options.float32) / 1e6,
            (self._best == self._images.classes).mean(),
        )
        return f"| float32 | {self._engine} | {size:.1f} MB | {median:.1f} ms | {right:.1%} | | | {share:.1%} |"

    def row(self, run: ComparedFile) -> str:
        """A quantized file's line: size and time as parts of float32's, pictures that went wrong and that came right."""
        with open_runtime(
            run.path, self._engine, RuntimeOptions(threads=self._options.threads)
        ) as runtime:
            both = {"int8": _timed(runtime), "float32": _timed(self._runtime)}
            times = run_interleaved(both, rounds=self._options.rounds, block=7, budget_s=_BUDGET_S)
        best, truth = self._answers(run.path), self._images.classes
        self.answers[run] = best
        right, was_right = best == truth, self._best == truth
        share = profile_kernels(run.path, self._options.threads, self._engine).share
        cells = (
            run.name,
            self._engine,
            f"{_size(run.path) / _size(self._options.float32):.2f}",
            f"{median_ratio(times['int8'], times['float32']):.2f}",
            f"{right.mean():.1%}",
            f"{(was_right & ~right).sum()} / {(right & ~was_right).sum()}",
            f"{(best == self._best).mean():.1%}",
            f"{share:.1%}",
        )
        return f"| {' | '.join(cells)} |"

    def _answers(self, path: Path) -> npt.NDArray[np.int64]:
        """The best class of every picture."""
        with self._open(path) as classifier:
            return np.asarray(classifier.logits(self._images.paths).argmax(1))


def _timed(runtime: Runtime) -> partial[Any]:
    given = runtime.inputs[0]
    return partial(runtime.run, random_input(given.shape, given.dtype))


def _size(path: Path) -> int:
    """Bytes of a file and of the weights beside it."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" else 0)


def _peers(options: argparse.Namespace, manifest: Manifest, folder: Path) -> list[ComparedFile]:
    """Other tools' files, made in `folder` of timm's model with the same weights; refused where that is not the same network."""
    check_installed()
    _nncf()
    from safetensors.torch import load

    stock = folder / "stock.onnx"
    model = import_timm().create_model(manifest.variant, num_classes=len(manifest.labels)).eval()
    model.load_state_dict(load(options.weights.read_bytes()))
    with redirect_stdout(sys.stderr):
        stock_export(model, manifest.img_size, stock)
    image = random_input((1, 3, manifest.img_size, manifest.img_size), "float32")
    with open_runtime(stock) as theirs, open_runtime(options.float32) as ours:
        if float(np.abs(theirs.run(image) - ours.run(image)).max()) > _SAME:
            raise ArtifactError(
                f"{options.float32} has other weights than {options.weights}",
                "give the exported file's own to --weights",
            )
    paths = list_images(options.calib_data)
    chosen = paths[:: max(1, len(paths) // _CALIBRATION)][
        :_CALIBRATION
    ]  # over the whole list, so of every class
    inputs = [manifest.preprocess(open_image(path))[None] for path in chosen]
    with redirect_stdout(sys.stderr):  # both tools talk
        return [*_by_nncf(stock, inputs, folder), _by_onnxruntime(stock, inputs, folder)]


def _nncf() -> Any:
    try:
        return importlib.import_module("nncf")
    except ImportError as error:
        raise MissingDependencyError(
            "nncf is not installed", "pip install nncf, for this comparison only"
        ) from error


def _by_nncf(stock: Path, inputs: list[Any], folder: Path) -> list[ComparedFile]:
    import openvino

    nncf, core = _nncf(), shared_core()
    made: list[ComparedFile] = []
    for name, settings in {
        "nncf": {},
        "nncf, TRANSFORMER": {"model_type": nncf.ModelType.TRANSFORMER},
    }.items():
        with quiet_loggers("nncf"):
            quantized = nncf.quantize(core.read_model(str(stock)), nncf.Dataset(inputs), **settings)
        path = folder / f"nncf{len(made)}.xml"
        openvino.save_model(quantized, path, compress_to_fp16=False)
        made.append(ComparedFile(name, path, "openvino"))
    return made


def _by_onnxruntime(stock: Path, inputs: list[Any], folder: Path) -> ComparedFile:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            return next(({name: x} for x in self._left), None)

    with open_runtime(stock) as runtime:
        name = runtime.inputs[0].name
    path = folder / "onnxruntime.onnx"
    with quiet_loggers("root"):
        quantization.quantize_static(
            stock, path, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True
        )
    return ComparedFile("onnxruntime's quantize_static", path, "onnxruntime")


if __name__ == "__main__":
    sys.exit(main())
