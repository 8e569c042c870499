"""Runs rknn-toolkit2. The Python of the toolkit's own environment executes this file as a script.

rknn-toolkit2 needs older packages than this project, so it has an environment of its own, and
`tinyvit.runtimes.rockchip.toolkit` starts this script. The script imports nothing of this package.
The exchange is a folder with these files:

- request.json: what to do, see `tinyvit.runtimes.rockchip.toolkit.ToolkitRequest`;
- network.onnx, and the .npy files that the request names;
- answer.json: the versions, and the error if there is one;
- network.rknn, layers.txt (the accuracy of each layer) and log.txt (the toolkit's output).

If the request says so, the process then stays and simulates the network: for each line on standard
input, the number of a batch, it reads input.npy and writes output_0.npy, output_1.npy and so on,
and prints the number, or "error".

Other code is put before this text when it is executed, so it cannot import from `__future__`.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import shutil
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SNAPSHOT_FOLDER = "snapshot"
"""Folder for the tensors of the accuracy analysis."""
_ANALYSIS_FILE = "error_analysis.txt"
"""File of the accuracy analysis in this folder."""
_CONFIGURATION_FILE = "network.quantization.cfg"
"""File with the range of each tensor, which the toolkit writes and reads."""
_RANGES_FILE = "ranges.py"
"""File of the module tinyvit.runtimes.rockchip.ranges, which is copied into the folder."""


class _MissingModule(types.ModuleType):
    """A module in place of torch, whose attributes are empty classes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": _ignore, "__call__": _return_function})


def _ignore(self: Any, *arguments: Any, **options: Any) -> None:
    """Take any arguments, as the constructor of an empty class."""


def _return_function(self: Any, function: Any) -> Any:
    """Return the function that a decorator of torch, such as no_grad, would change."""
    return function


class _MissingModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for torch and each of its submodules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a module for torch, and None for all other names."""
        if fullname.partition(".")[0] != "torch":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return an empty module."""
        module = _MissingModule(spec.name)
        module.__path__ = []  # so that its submodules are looked for
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute nothing, because the module is empty."""


class StepError(Exception):
    """A step of the toolkit failed; the message is a clause."""


def import_toolkit() -> Any:
    """Import the toolkit and return its class RKNN.

    The toolkit imports torch for its converter of PyTorch files, which is not used here, and works
    with an empty module in its place. That saves an installation of several GB.
    """
    if importlib.util.find_spec("torch") is None:
        sys.meta_path.insert(0, _MissingModuleFinder())
    from rknn.api import RKNN

    return RKNN


def check(code: Any, step: str) -> None:
    """Raise StepError if the toolkit reports that a step failed.

    Args:
        code: What the toolkit returned, 0 for success.
        step: Name of the step.
    """
    if code != 0:
        raise StepError(f"{step} failed")


def build(rknn: Any, request: dict[str, Any], answer: dict[str, Any], make_instance: Any) -> None:
    """Compile the network, and analyze the accuracy of each layer.

    Args:
        rknn: An instance of the toolkit's class.
        request: The request.
        answer: The answer, to which counts are added.
        make_instance: Makes another instance.
    """
    check(rknn.config(**request["settings"]), "configuring")
    if request["ranges"] is None and not request["known_quantization"]:
        check(rknn.load_onnx("network.onnx"), "reading the ONNX file")
        check(rknn.build(do_quantization=False), "compiling")
    else:
        Path(_CONFIGURATION_FILE).write_text(quantize(make_instance(), request, answer))
        code = rknn.hybrid_quantization_step2(
            model_input="network.model",
            data_input="network.data",
            model_quantization_cfg=_CONFIGURATION_FILE,
        )
        check(code, "compiling the quantized network")
    check(rknn.export_rknn("network.rknn"), "writing the file")
    if request["analysis_inputs"]:
        analyze(rknn, request["analysis_inputs"])


def quantize(rknn: Any, request: dict[str, Any], answer: dict[str, Any]) -> str:
    """Let the toolkit rewrite the network, and choose the range of each tensor.

    The toolkit measures ranges with the images of a list. Those are used only for the tensors that
    have no range in the request.

    Args:
        rknn: An instance of the toolkit's class.
        request: The request.
        answer: The answer, to which counts are added.

    Returns:
        The content of the configuration file.
    """
    Path("dataset.txt").write_text("".join(f"{name}\n" for name in request["range_inputs"]))
    check(rknn.config(**request["settings"]), "configuring")
    check(rknn.load_onnx("network.onnx"), "reading the ONNX file")
    check(rknn.hybrid_quantization_step1(dataset="dataset.txt"), "measuring ranges")
    rknn.release()
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    configuration = yaml.load(Path(_CONFIGURATION_FILE))
    parameters = configuration["quantize_parameters"]
    if request["known_quantization"]:
        known = yaml.load(request["known_quantization"])["quantize_parameters"]
        for name in parameters.keys() & known.keys():
            set_range(parameters[name], known[name]["min"], known[name]["max"])
    else:
        import onnx

        nodes = [
            (node.op_type, node.name, list(node.input), node.output[0])
            for node in onnx.load("network.model").graph.node
            if node.input
        ]
        own_ranges = load_ranges_module().choose_ranges(nodes, list(parameters), request["ranges"])
        for name, (smallest, largest) in own_ranges.items():
            set_range(parameters[name], [smallest], [largest])
        answer["own_range_count"], answer["tensor_count"] = len(own_ranges), len(parameters)
    text = io.StringIO()
    yaml.dump(configuration, text)
    return text.getvalue()


def load_ranges_module() -> Any:
    """Return the module in the file `_RANGES_FILE`."""
    spec = importlib.util.spec_from_file_location("ranges", _RANGES_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def set_range(entry: dict[str, Any], smallest: list[float], largest: list[float]) -> None:
    """Change the range of a tensor.

    The toolkit computes the scale and the zero point from the range; it refuses other changes. With
    the numbers that the integers -128 and 127 represent, it computes the same scale and zero point.

    Args:
        entry: The entry of a tensor; one of another type than int8 is not changed.
        smallest: Value that becomes the integer -128, as a list of one.
        largest: Value that becomes the integer 127, as a list of one.
    """
    if entry.get("dtype") == "int8":
        entry.update(min=smallest, max=largest)


def analyze(rknn: Any, inputs: list[str]) -> None:
    """Write layers.txt: the error of each layer in the simulator.

    Args:
        rknn: An instance of the toolkit's class, with a compiled network.
        inputs: Names of .npy files with one image each.
    """
    check(rknn.accuracy_analysis(inputs, _SNAPSHOT_FOLDER), "analyzing the layers")
    shutil.copyfile(Path(_SNAPSHOT_FOLDER, _ANALYSIS_FILE), "layers.txt")
    shutil.rmtree(_SNAPSHOT_FOLDER, ignore_errors=True)


def simulate(rknn: Any, answers: Any) -> None:
    """Answer batches until standard input ends.

    Args:
        rknn: An instance of the toolkit's class, with a compiled network.
        answers: The file to which the numbers of finished batches are printed.
    """
    import numpy as np

    for line in sys.stdin:
        number = line.strip()
        try:
            batch = np.load("input.npy", allow_pickle=False)
            outputs = rknn.inference(inputs=[batch], data_format=["nchw"])
            for index, output in enumerate(outputs):
                np.save(f"output_{index}.npy", np.asarray(output, np.float32))
        except Exception:
            print("error", file=answers, flush=True)
            raise
        print(number, file=answers, flush=True)


def redirect_output(path: str) -> Any:
    """Let everything that this process prints go to a file, also what libraries print.

    Args:
        path: Path of the file.

    Returns:
        The standard output as it was before.
    """
    answers = os.fdopen(os.dup(1), "w")
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return answers


def main(folder: str) -> int:
    """Do what the request in a folder says.

    Args:
        folder: The folder with request.json.

    Returns:
        The exit code.
    """
    os.chdir(folder)
    request = json.loads(Path("request.json").read_text())
    answers = redirect_output("log.txt")
    answer: dict[str, Any] = {"toolkit": "", "error": ""}
    rknn = None
    try:
        toolkit = import_toolkit()
        from importlib import metadata

        answer["toolkit"] = metadata.version("rknn-toolkit2")
        rknn = toolkit(verbose=True)
        build(rknn, request, answer, lambda: toolkit(verbose=True))
        if request["simulates"]:
            check(rknn.init_runtime(), "starting the simulator")
    except ImportError as error:
        answer["error"] = f"cannot import {error.name or 'rknn'}"
    except StepError as error:
        answer["error"] = str(error)
    except Exception as error:  # whatever the toolkit raises is reported to the other process
        lines = str(error).strip().splitlines() or ["no message"]
        answer["error"] = f"{type(error).__name__}: {lines[-1].strip()}"
    Path("answer.tmp").write_text(json.dumps(answer))
    Path("answer.tmp").replace("answer.json")
    if request["simulates"] and not answer["error"]:
        print("ready", file=answers, flush=True)
        simulate(rknn, answers)
    if rknn is not None:
        with contextlib.suppress(Exception):
            rknn.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
