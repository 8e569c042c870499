"""An int8 export on a full disk leaves nothing behind, and says in one line what is full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.full_disk import fill_disk, mount_small_disk, require_one_error, run_command

pytest.importorskip("torch")
pytest.importorskip("torchao")

COMMAND = "tinyvit.export.cli"
SIZE = 64


@pytest.fixture(scope="module")
def calibration_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 64 random images."""
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, np.random.default_rng(0).integers(0, 256, (64, SIZE, SIZE, 3), np.uint8))
    return path


def int8_arguments(images: Path, output: Path) -> list[object]:
    options = ["--img-size", SIZE, "--int8", "--calib-count", 32, "--min-agreement", 0]
    return ["--model", "demo", *options, "--calib-data", images, "-o", output]


@pytest.mark.slow
@pytest.mark.parametrize("max_file_bytes", [1_000, 2_000_000])
def test_an_int8_export_with_a_limit_on_files(
    max_file_bytes: int,
    calibration_images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("output", "temporary", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("TINYVIT_CACHE", str(tmp_path / "cache"))
    arguments = int8_arguments(calibration_images, tmp_path / "output" / "demo.onnx")
    process = run_command(COMMAND, *arguments, max_file_bytes=max_file_bytes)
    require_one_error(process, "cannot be written")
    assert "(the disk is full): free space there" in process.stderr.splitlines()[-1]
    assert list((tmp_path / "output").iterdir()) == []
    assert list((tmp_path / "temporary").glob(".tinyvit*")) == []
    # The state of the calibration is removed when the calibration ends.
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("full", ["output", "temporary", "cache"])
def test_an_int8_export_with_a_full_disk(
    full: str, calibration_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mount_small_disk(tmp_path / full, 2**20) as disk:
        # Python chooses another folder for temporary files if not even a small file fits.
        filler = fill_disk(disk, free_bytes=2**16 if full == "temporary" else 0)
        for name in {"output", "temporary", "cache"} - {full}:
            (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
        monkeypatch.setenv("TINYVIT_CACHE", str(tmp_path / "cache"))
        output = tmp_path / "output" / "demo.onnx"
        process = run_command(COMMAND, *int8_arguments(calibration_images, output))
        filler.unlink()
        if full == "cache":  # it only saves time
            assert process.returncode == 0, process.stderr
            assert [path.name for path in output.parent.iterdir()] == ["demo.onnx"]
        else:
            require_one_error(process, "cannot be written")
            assert str(tmp_path / full) in process.stderr.splitlines()[-1]
            assert list(output.parent.iterdir()) == []
        assert list(disk.iterdir()) == []
        assert list((tmp_path / "temporary").glob(".tinyvit*")) == []
