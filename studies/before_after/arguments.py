"""Makes the arguments of the measurement programs, and the files that these need.

Each function gets the files that all share and a state, and raises TinyViTError if this machine
cannot measure the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.machine import count_cores
from tinyvit.errors import RequestError
from tinyvit.studies.before_after.builds import build_cpp, build_web_page
from tinyvit.studies.before_after.inputs import CALIBRATION_IMAGES, COMPARED_IMAGES, Inputs

_PSS_FILE = Path("/proc/self/smaps_rollup")
_DEMO = ("export", "--model", "demo")


@dataclass(frozen=True)
class State:
    """One state of the repository, for which a row makes the arguments of its program.

    Attributes:
        tree: Folder of the state.
        root: The present working tree.
        is_before: Whether the state is that before the change.
    """

    tree: Path
    root: Path
    is_before: bool


def predict_large(inputs: Inputs, _: State) -> list[str]:
    """Predict the large photograph with an artifact for normalized images."""
    network = str(inputs.export_demo("demo.int8.onnx"))
    runs = str(inputs.plan.runs)
    return [network, network, str(inputs.make_large_photograph()), "--runs", runs]


def predict_small(inputs: Inputs, _: State) -> list[str]:
    """Predict a small photograph with the same artifact."""
    network = str(inputs.export_demo("demo.int8.onnx"))
    runs = str(4 * inputs.plan.runs)
    return [network, network, str(inputs.make_small_photograph()), "--runs", runs]


def predict_full(inputs: Inputs, _: State) -> list[str]:
    """Predict the large photograph with an artifact that resizes images itself."""
    full = inputs.export_demo("demo.int8.full.onnx", "--preprocess", "full")
    network, photograph = inputs.export_demo("demo.int8.onnx"), inputs.make_large_photograph()
    return [str(full), str(network), str(photograph), "--runs", str(inputs.plan.runs)]


def run_cpp(inputs: Inputs, state: State) -> list[str]:
    """Predict the large photograph with the C++ program."""
    program = build_cpp(state.tree, inputs.folder / f"cpp-{state.tree.name}")
    full = inputs.export_demo("demo.int8.full.onnx", "--preprocess", "full")
    return [str(program), str(full), str(inputs.make_large_photograph()), str(inputs.plan.runs)]


def _open_page(inputs: Inputs, state: State, photograph: Path) -> list[str]:
    models = [
        inputs.export_demo(name, "--preprocess", "full")
        for name in ("demo.full.onnx", "demo.int8.full.onnx")
    ]
    folder = inputs.folder / f"web-{state.tree.name}"
    page = build_web_page(state.tree, state.root, folder, models)
    script = state.root / "examples" / "web" / "measure.py"
    return [str(script), str(photograph), "--page", str(page)]


def measure_page_large(inputs: Inputs, state: State) -> list[str]:
    """Predict the large photograph in the web page."""
    arguments = _open_page(inputs, state, inputs.make_large_photograph())
    return [*arguments, "--runs", str(inputs.plan.web_runs), "--browsers", "0"]


def measure_page_first(inputs: Inputs, state: State) -> list[str]:
    """Predict a small photograph in the web page, as the first one."""
    arguments = _open_page(inputs, state, inputs.make_small_photograph())
    return [*arguments, "--runs", "0", "--browsers", str(inputs.plan.web_runs)]


def classify_many(inputs: Inputs, state: State) -> list[str]:
    """Classify many small photographs: on two threads before, in two streams after."""
    folder = inputs.make_small_photographs(inputs.plan.pictures)
    _require_two_cores()
    threads = ["--threads", "2"] if state.is_before else ["--threads", "1", "--streams", "2"]
    return [str(inputs.export_demo("demo.int8.onnx")), str(folder), *threads]


def classify_many_in_openvino(inputs: Inputs, _: State) -> list[str]:
    """Classify many small photographs in two streams of OpenVINO."""
    folder = inputs.make_small_photographs(inputs.plan.pictures)
    _require_two_cores()
    file = inputs.export_demo("demo.int8.xml", "--target", "openvino")
    return [str(file), str(folder), "--threads", "1", "--streams", "2"]


def export_all(inputs: Inputs, _: State) -> list[str]:
    """Export to several targets in int8, with validation data."""
    plan, validation = inputs.plan, str(inputs.sample_validation())
    _require_memory_counters()
    data = ["--calib-data", str(inputs.calib_data), "--val-data", validation]
    options = [*plan.export_options, *plan.validation_options]
    return [*_DEMO, "--target", *plan.targets, "--int8", *data, *options, "-o", "out/"]


def export_synthetic(inputs: Inputs, _: State) -> list[str]:
    """Export in int8, calibrated on synthetic images."""
    options = [*inputs.plan.export_options, *inputs.plan.synthetic_options]
    return [*_DEMO, "--int8", *options, "-o", "demo.onnx"]


def list_names(inputs: Inputs, _: State) -> list[str]:
    """List many images."""
    _require_memory_counters()
    names = inputs.make_names(inputs.plan.names)
    return [str(inputs.export_demo("demo-64.onnx", "--img-size", "64")), str(names)]


def measure_accuracy(inputs: Inputs, _: State) -> list[str]:
    """Measure the accuracy on many tiny pictures."""
    _require_memory_counters()
    data = str(inputs.make_names(inputs.plan.tiny_pictures))
    file = str(inputs.export_demo("demo-64.onnx", "--img-size", "64"))
    return ["bench", "accuracy", file, "--data", data, "--threads", "1", "--json"]


def calibrate(inputs: Inputs, _: State) -> list[str]:
    """Export in int8, calibrated on many pictures."""
    return _calibrate_on(inputs, inputs.plan.calibration_pictures, inputs.plan.export_options)


def calibrate_large_images(inputs: Inputs, _: State) -> list[str]:
    """Export in int8 at a large image size, calibrated on few photographs."""
    options = ("--img-size", str(inputs.plan.large_img_size))
    return _calibrate_on(inputs, CALIBRATION_IMAGES, options)


def _calibrate_on(inputs: Inputs, count: int, options: Sequence[str]) -> list[str]:
    """Export in int8, calibrated on a number of photographs."""
    _require_memory_counters()
    photographs = str(inputs.make_small_photographs(count + COMPARED_IMAGES))
    data = ["--calib-data", photographs, "--calib-count", str(count)]
    return [*_DEMO, "--int8", *data, *options, "--min-agreement", "0", "-o", "demo.onnx"]


def _require_two_cores() -> None:
    if count_cores() < 2:
        raise RequestError("streams need two cores", "measure on a machine that has them")


def _require_memory_counters() -> None:
    if not _PSS_FILE.exists():
        raise RequestError("this system does not count shared memory", "measure on Linux")
