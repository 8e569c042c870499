"""tinyvit-export as it is typed, in a process of its own."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def command():
    def command(*arguments, cwd=None):
        return subprocess.run(
            [sys.executable, "-m", "tinyvit.export.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
        )

    return command


def test_command_makes_what_it_says(command, tmp_path):
    done = command("--model", "demo", "--target", "onnx", "ov", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert [one["target"] for one in record["artifacts"]] == ["onnx", "openvino"]
    assert all(
        one["size_bytes"] > 20e6 and one["median_ms"] > 0 and one["max_abs_diff"] < 1e-4
        for one in record["artifacts"]
    )
    assert all(one["samples"] >= 3 and one["baseline_samples"] >= 3 for one in record["artifacts"])
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "demo.bin",
        "demo.onnx",
        "demo.xml",
    ]
    again = command("--model", "demo", "-o", tmp_path / "out")
    assert again.returncode == 1
    assert again.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--img-size", "x"],
        ["--model", "demo", "--checkpoint", "x"],
        ["--preprocess", "some"],
        ["--nonsense"],
    ],
)
def test_usage_errors_exit_2(command, arguments):
    assert command(*arguments).returncode == 2


def test_help_list_and_version(command):
    from tinyvit import __version__

    assert command("--help").stdout.count("tinyvit-export --") >= 2
    assert __version__ in command("--version").stdout
    assert command("--list").stdout.count("apache-2.0") == 11
    assert len(json.loads(command("--list", "--json").stdout)["models"]) == 11


def test_the_columns_of_the_list_are_straight(command):
    lines = command("--list").stdout.splitlines()
    head = next(line for line in lines if line.endswith(" hub"))
    rows = [line for line in lines if "apache-2.0" in line]
    assert {row.index("apache-2.0") for row in rows} == {head.index("license")}
    assert {row.index("timm/") for row in rows} == {head.index("hub")}


def test_bad_checkpoint_is_one_line(command, tmp_path):
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html></html>")
    done = command("--checkpoint", tmp_path / "page.pth", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "web page" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("target", "name"),
    [("onnx", "demo.onnx"), pytest.param("openvino", "demo.xml", marks=pytest.mark.slow)],
)
def test_full_disk_leaves_nothing(target, name, tmp_path):
    """A real limit of the system's on the size of files, in a process of its own."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000));"
        "from tinyvit.export.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    pytest.importorskip("resource")
    arguments = ["--model", "demo", "--target", target, "-o", tmp_path / name]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert (
        target != "onnx" or "the disk is full" in last
    )  # OpenVINO does not tell why it could not write
    assert list(tmp_path.iterdir()) == []
