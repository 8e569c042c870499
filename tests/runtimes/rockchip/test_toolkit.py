"""The exchange with the process of rknn-toolkit2, with programs that take its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_rknn import write_fake_python, write_fake_toolkit
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.runtimes.rockchip.chips import CHIPS, PYTHON_VARIABLE, SETUP_COMMANDS, find_python
from tinyvit.runtimes.rockchip.log import Layer, find_toolkit_error, parse_layers
from tinyvit.runtimes.rockchip.ranges import (
    Range,
    choose_ranges,
    list_original_names,
    make_symmetric,
)
from tinyvit.runtimes.rockchip.simulator import Simulator
from tinyvit.runtimes.rockchip.toolkit import (
    ToolkitRequest,
    compile_network,
    make_worker_environment,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the toolkit is for Linux")

IMAGE = np.full((1, 3, 8, 8), 0.5, np.float32)
REQUEST = ToolkitRequest(b"network", CHIPS["rk3588"], analysis_image=IMAGE)

ANSWER = "import json, pathlib\nfolder = pathlib.Path(sys.argv[-1])\n"
"""Beginning of a program that writes files of its own."""
GOOD_ANSWER = ANSWER + (
    "(folder / 'answer.json').write_text(json.dumps({'toolkit': '2.5.0', 'error': ''}))\n"
    "(folder / 'network.rknn').write_bytes(b'RKNN' + bytes(60))\n"
    "(folder / 'layers.txt').write_text('layers')\n"
)


def test_the_network_is_compiled_and_described(tmp_path: Path) -> None:
    compiled = compile_network(REQUEST, write_fake_toolkit(tmp_path))
    assert compiled.data.startswith(b"RKNN\0\0\0\0exported by tinyvit-edge")
    assert compiled.compiler == "rknn-toolkit2 2.5.0"
    assert compiled.layers == (
        Layer("Conv", "NPU", "node_conv2d"),
        Layer("Conv", "CPU", "node_linear#2"),
    )
    assert compiled.layer_errors == "[Input] 1"
    assert compiled.quantization == ""


@pytest.mark.parametrize("name", list(CHIPS))
def test_the_request_names_the_chip(name: str, tmp_path: Path) -> None:
    ToolkitRequest(b"network", CHIPS[name]).write(tmp_path, simulates=False)
    request = json.loads((tmp_path / "request.json").read_text())
    assert request["settings"]["target_platform"] == name
    assert ("single_core_mode" in request["settings"]) == (name == "rk3588")
    assert request["analysis_inputs"] == request["range_inputs"] == []
    assert request["ranges"] is None
    assert (tmp_path / "network.onnx").read_bytes() == b"network"


@pytest.mark.parametrize("name", list(CHIPS))
def test_operands_are_not_swapped_in_int8_where_attention_is_not_fused(
    name: str, tmp_path: Path
) -> None:
    requests = {
        "float16": ToolkitRequest(b"network", CHIPS[name]),
        "int8": ToolkitRequest(b"network", CHIPS[name], ranges={}),
        "known": ToolkitRequest(
            b"network", CHIPS[name], known_quantization="cfg", input_shape=(1,)
        ),
    }
    changed = set()
    for kind, request in requests.items():
        request.write(tmp_path, simulates=False)
        if "disable_rules" in json.loads((tmp_path / "request.json").read_text())["settings"]:
            changed.add(kind)
    # The simulator compiles the network as the export did.
    assert changed == ({"int8", "known"} if name in ("rk3566", "rk3568") else set())


def test_a_known_quantization_needs_an_image_of_the_right_shape(tmp_path: Path) -> None:
    request = ToolkitRequest(
        b"network", CHIPS["rk3566"], known_quantization="cfg", input_shape=(1, 3, 8, 8)
    )
    request.write(tmp_path, simulates=True)
    assert json.loads((tmp_path / "request.json").read_text())["range_inputs"] == ["range_0.npy"]
    assert np.load(tmp_path / "range_0.npy").shape == (1, 3, 8, 8)


def test_a_failed_step_is_reported_with_the_toolkits_reason(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="compiling failed") as error:
        compile_network(REQUEST, write_fake_toolkit(tmp_path, "FAILS = True"))
    assert "build: cannot fuse it" in str(error.value)
    assert "Unkown" not in str(error.value)


def test_a_python_without_the_toolkit_gets_the_commands() -> None:
    # The Python of this process has numpy, and no rknn.
    with pytest.raises(RequestError, match="cannot import rknn") as error:
        compile_network(REQUEST, sys.executable)
    assert all(command in error.value.remedy for command in SETUP_COMMANDS)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('no such option')", "ended without an answer \\(no such option\\)"),
        ("import os; os.kill(os.getpid(), 9)", "ended without an answer \\(signal 9\\)"),
        (ANSWER + "(folder / 'answer.json').write_text('[')", "is not an answer"),
        (ANSWER + "(folder / 'answer.json').write_text('{\"toolkit\": 1}')", "is not an answer"),
        (ANSWER + "(folder / 'answer.json').mkdir()", "is not an answer"),
        (GOOD_ANSWER + "(folder / 'network.rknn').unlink()", "network.rknn cannot be read"),
        (GOOD_ANSWER + "(folder / 'network.rknn').write_text('x')", "is not a compiled network"),
        (GOOD_ANSWER + "(folder / 'layers.txt').unlink()", "layers.txt cannot be read"),
        (
            GOOD_ANSWER + "import os; os.mkfifo(folder / 'log.txt')",
            "log.txt cannot be read",
        ),
        (GOOD_ANSWER + "(folder / 'log.txt').write_bytes(bytes(2**25))", "log.txt cannot be read"),
        ("print('x' * 2**20)", "printed more than"),
    ],
)
def test_other_answers_are_errors_of_one_line(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=message) as error:
        compile_network(REQUEST, write_fake_python(tmp_path, code))
    assert "\n" not in str(error.value)


def test_the_worker_gets_no_variables_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/packages/of/this/environment")
    monkeypatch.setenv("HOME", "/home/user")
    environment = make_worker_environment()
    assert "PYTHONPATH" not in environment
    assert environment["HOME"] == "/home/user"


def test_the_python_is_that_of_the_option_or_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(MissingDependencyError, match="environment of its own") as missing:
        find_python()
    assert all(command in missing.value.remedy for command in SETUP_COMMANDS)
    assert "\n" not in str(missing.value)
    with pytest.raises(RequestError, match="not a Python that can be started"):
        find_python(str(tmp_path))
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    assert find_python() == sys.executable
    program = write_fake_python(tmp_path, "")
    assert find_python(program) == program


def test_the_simulator_answers_batches(tmp_path: Path) -> None:
    simulator = Simulator(REQUEST, write_fake_toolkit(tmp_path))
    for value in (0.25, 2.0):
        (output,) = simulator.run(np.full_like(IMAGE, value), [(1, 12)])
        assert output.shape == (1, 12)
        assert np.all(output == value)
    with pytest.raises(ArtifactError, match="another shape"):
        simulator.run(IMAGE, [(1, 11)])
    with pytest.raises(ArtifactError, match="cannot be read"):
        simulator.run(IMAGE, [(1, 12), (1, 12)])
    simulator.close()
    simulator.close()


@pytest.mark.parametrize(
    "behavior",
    [
        "def OUTPUTS(image): raise ValueError('broken')",
        "def OUTPUTS(image): os.kill(os.getpid(), 9)",
    ],
)
def test_a_simulator_that_fails_is_an_error(behavior: str, tmp_path: Path) -> None:
    simulator = Simulator(REQUEST, write_fake_toolkit(tmp_path, behavior))
    for _ in range(2):
        with pytest.raises(ArtifactError, match="ended or does not answer"):
            simulator.run(IMAGE, [(1, 12)])
    simulator.close()


def test_a_simulator_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="ended without an answer"):
        Simulator(REQUEST, write_fake_python(tmp_path, "sys.exit(3)"))
    with pytest.raises(ArtifactError, match="ended or does not answer"):
        Simulator(REQUEST, write_fake_python(tmp_path, GOOD_ANSWER))


def test_an_output_that_would_execute_code_is_not_read(tmp_path: Path) -> None:
    behavior = (
        "np.save = lambda path, array: pathlib.Path(path).write_bytes(\n"
        "    b'\\x93NUMPY\\x01\\x00v\\x00' + b\"{'descr': '|O', 'fortran_order': False,\"\n"
        "    b\" 'shape': (10,), }\".ljust(117) + b'\\n')\n"
    )
    simulator = Simulator(REQUEST, write_fake_toolkit(tmp_path, behavior))
    with pytest.raises(ArtifactError, match="cannot be read"):
        simulator.run(IMAGE, [(1, 12)])
    simulator.close()


def test_only_rows_of_the_table_are_layers() -> None:
    rows = [
        "D RKNN: [1] 7 exGelu FLOAT16 NPU (1,64,16,16) (1,64,16,16) 0/0/0 32 exGelu:node_Mul_2gelu",
        "D RKNN: [1] 7 exGelu FLOAT16 NPU",
        "D RKNN: [1] 8 exGelu weight FLOAT16 (1) | 0x1 0x2 0x3",
        "D RKNN: [1] 9 OutputOperator FLOAT16 CPU (1,10) \\ 0/0/0 0 OutputOperator:logits",
        "I RKNN: [1] 9 exGelu FLOAT16 NPU (1) (1) 0/0/0 32 exGelu:x",
        "",
    ]
    assert parse_layers("\n".join(rows)) == (Layer("exGelu", "NPU", "node_Mul_2gelu"),)
    assert parse_layers("") == ()


def test_the_last_error_is_found_without_colors() -> None:
    log = "\x1b[1;31mE\x1b[0m \x1b[1;31mfirst\x1b[0m\nE second\nI done\nE Unkown op target: 0\n"
    assert find_toolkit_error(log) == "second"
    assert find_toolkit_error("I done") == ""


def test_ranges_follow_the_toolkits_names() -> None:
    assert list_original_names("gelu_9-rs_sw") == ["gelu_9-rs_sw", "gelu_9-rs", "gelu_9"]
    assert "node_matmul_5_2sdpa_q_add" in list_original_names("node_matmul_5#1_2sdpa_q_add")
    assert "image" in list_original_names("image_int8")
    assert "softmax_2" in list_original_names("softmax_2_transposed_rs")
    nodes = [
        ("Conv", "node_conv2d", ["image"], "conv2d"),
        ("Reshape", "view_rs#1", ["conv2d"], "permute_sw"),
        ("Transpose", "node_layer_norm#1_rs_tp", ["permute_sw"], "node_layer_norm#1_sw"),
        ("exNorm", "node_layer_norm#1", ["node_layer_norm#1_sw"], "normed"),
        ("Conv", "node_linear#2", ["normed"], "linear_tp_rs_sw"),
        ("Reshape", "linear_tp_rs", ["linear_tp_rs_sw"], "view_3"),
        ("Reshape", "node_view_4", ["view_3"], "view_4"),
        ("Add", "node_add", ["view_4"], "unknown"),
    ]
    names = ["image", *(output for *_, output in nodes)]
    ranges = {
        name: (-float(number), 2.0 * number)
        for number, name in enumerate(("image", "conv2d", "layer_norm", "view_4", "absent"), 1)
    }
    assert choose_ranges(nodes, names, ranges) == {
        "image": (-1.0, 2.0),
        "conv2d": (-2.0, 4.0),
        "permute_sw": (-2.0, 4.0),
        "node_layer_norm#1_sw": (-2.0, 4.0),  # the input of the LayerNorm, whatever its name says
        "normed": (-3.0, 6.0),
        "view_4": (-4.0, 8.0),
        "view_3": (-4.0, 8.0),
        "linear_tp_rs_sw": (-4.0, 8.0),
    }


def test_second_operands_have_no_zero_point() -> None:
    nodes = [
        ("Conv", "node_linear", ["image", "weight"], "values"),
        ("exSoftmax13", "node_softmax", ["scores"], "softmax"),
        ("Transpose", "softmax_tp", ["softmax"], "softmax_tp"),
        ("Reshape", "softmax_rs", ["softmax"], "softmax_rs"),
        ("exMatMul", "node_matmul", ["values", "softmax_tp"], "matmul"),
        # A tensor that is only a first operand keeps its range, and so does a constant.
        ("exMatMul", "node_matmul_1", ["scores", "values"], "matmul_1"),
        ("exMatMul", "node_matmul_2", ["scores", "weight"], "matmul_2"),
    ]
    ranges = {
        "scores": (-10.0, 20.0),
        "softmax": (0.0, 0.635),
        "values": (-1.28, 1.27),
        "weight": (0.0, 1.0),
    }
    names = [*ranges, "softmax_tp", "softmax_rs"]
    chosen = choose_ranges(nodes, names, ranges)
    symmetric = pytest.approx((-0.64, 0.635))
    assert {name: chosen[name] for name in names if name.startswith("softmax")} == {
        "softmax": symmetric,
        "softmax_tp": symmetric,
        "softmax_rs": symmetric,
    }
    assert {name: chosen[name] for name in ranges if name != "softmax"} == {
        name: limits for name, limits in ranges.items() if name != "softmax"
    }


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0.0, 1.27), (-1.28, 1.27)),
        ((-1.28, 0.0), (-1.28, 1.27)),
        ((-2.56, 1.0), (-2.56, 2.54)),
        ((-1.28, 1.27), (-1.28, 1.27)),
        ((0.0, 0.0), (0.0, 0.0)),
    ],
)
def test_a_symmetric_range_contains_the_range(limits: Range, expected: Range) -> None:
    assert make_symmetric(limits) == pytest.approx(expected)
    # A range that is symmetric is not changed by a rounding, so other files stay as they are.
    assert make_symmetric(make_symmetric(limits)) == make_symmetric(limits)


@pytest.mark.parametrize("name", ["worker.py", "ranges.py"])
def test_the_other_python_needs_nothing_of_this_package(name: str) -> None:
    from tinyvit.runtimes.rockchip import chips

    lines = Path(chips.__file__).with_name(name).read_text().splitlines()
    imports = [line for line in lines if line.strip().startswith(("import ", "from "))]
    assert not [line for line in imports if "tinyvit" in line or "__future__" in line]
