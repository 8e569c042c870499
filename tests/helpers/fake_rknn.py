"""A Python with a package that behaves like rknn-toolkit2, for tests without the toolkit.

The package computes nothing: its compiler writes the magic number of a .rknn file, and its
simulator returns the mean of the image for every class. The process and the exchange of files are
real.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = """
import json
import os
import pathlib
import sys

import numpy as np

{behavior}

class RKNN:
    def __init__(self, verbose):
        print("D RKNN: [11:37:33.763] ID  OpType  DataType Target InputShape OutputShape FullName")
        print("D RKNN: [11:37:33.763] 0 InputOperator FLOAT16 CPU (1) (1) 0/0/0 0 InputOperator:x")
        print("D RKNN: [11:37:33.763] 1 Conv FLOAT16 NPU (1) (1) 0/0/0 0 Conv:node_conv2d")
        print("D RKNN: [11:37:33.763] 2 Conv FLOAT16 CPU (1) (1) 0/0/0 0 Conv:node_linear#2")
        sys.stdout.flush()

    def config(self, **settings):
        self.settings = settings
        return 0

    def load_onnx(self, model):
        return 0

    def build(self, do_quantization):
        os.write(2, b"E RKNN: [11:36:19.029] Unkown op target: 0\\n")
        if FAILS:
            os.write(2, b"\\x1b[1;31mE\\x1b[0m \\x1b[1;31mbuild: cannot fuse it\\x1b[0m\\n")
        return -1 if FAILS else 0

    def hybrid_quantization_step1(self, dataset):
        entry = {{"dtype": "int8", "min": [0], "max": [0]}}
        text = json.dumps({{"quantize_parameters": {{"image": entry}}}})
        pathlib.Path("network.quantization.cfg").write_text(text)
        return 0

    def hybrid_quantization_step2(self, model_input, data_input, model_quantization_cfg):
        text = pathlib.Path(model_quantization_cfg).read_text()
        return 0 if json.loads(text)["quantize_parameters"]["image"]["max"] == [127] else -1

    def export_rknn(self, path):
        text = self.settings["custom_string"]
        pathlib.Path(path).write_bytes(b"RKNN" + bytes(4) + text.encode() + CONTENT)
        return 0

    def accuracy_analysis(self, inputs, folder):
        pathlib.Path(folder).mkdir()
        pathlib.Path(folder, "error_analysis.txt").write_text(f"[Input] {{len(inputs)}}")
        return 0

    def init_runtime(self):
        return 0

    def inference(self, inputs, data_format):
        return OUTPUTS(inputs[0])

    def release(self):
        pass
"""

_YAML = """
import json
class YAML:
    def __init__(self, typ):
        pass
    def load(self, source):
        return json.loads(source if isinstance(source, str) else source.read_text())
    def dump(self, data, file):
        file.write(json.dumps(data))
"""
"""In place of ruamel.yaml, on which the toolkit depends. JSON is a part of YAML."""

_DEFAULT_BEHAVIOR = """
FAILS = False
CONTENT = b"compiled"
def OUTPUTS(image):
    return [np.full((1, 12), image.mean(), np.float32)]
"""


def write_fake_toolkit(folder: Path, behavior: str = "") -> str:
    """Write a Python with the package.

    Args:
        folder: An existing folder.
        behavior: Python code that changes FAILS, CONTENT or OUTPUTS of the package.

    Returns:
        Path of the Python.
    """
    package = folder / "packages" / "rknn"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    code = _PACKAGE.format(behavior=_DEFAULT_BEHAVIOR + behavior)
    (package / "api.py").write_text(code)
    (folder / "packages" / "ruamel").mkdir()
    (folder / "packages" / "ruamel" / "yaml.py").write_text(_YAML)
    info = folder / "packages" / "rknn_toolkit2-2.5.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rknn-toolkit2\nVersion: 2.5.0\n")
    packages = str(folder / "packages")
    return write_fake_python(
        folder,
        f"sys.path.insert(0, {packages!r})\n"
        "code, sys.argv = sys.argv[2], ['-c', *sys.argv[3:]]\n"
        "exec(compile(code, 'worker', 'exec'))\n",
    )


def write_fake_python(folder: Path, code: str) -> str:
    """Write a program that is started instead of a Python.

    Args:
        folder: An existing folder.
        code: What it does. `sys` is imported, and `sys.argv[-1]` is the folder of the exchange.

    Returns:
        Path of the program.
    """
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport sys\n{code}")
    path.chmod(0o755)
    return str(path)
