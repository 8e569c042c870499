"""Pipes, devices, sockets and files of the kernel are refused before they are opened."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.processes import run_limited
from tinyvit.data.archives import index_tar
from tinyvit.data.calibration_images import list_calibration_images
from tinyvit.data.listing import read_listing
from tinyvit.data.truth_files import read_truth_file
from tinyvit.errors import ImageError, RequestError, TinyViTError
from tinyvit.files import regular_files
from tinyvit.files.file_io import explain_os_error, read_text, refuse_existing, sha256
from tinyvit.files.regular_files import (
    SpecialFileError,
    check_regular_file,
    open_regular_file,
    open_regular_file_for_update,
    read_bounded,
    read_open_file,
)
from tinyvit.images.decoding import open_image
from tinyvit.labels import read_labels
from tinyvit.serialization import read_json

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe into which nobody writes. Opening it would wait forever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def make_pipe(tmp_path: Path) -> Callable[[str], Path]:
    """A function that makes a named pipe of a given name."""

    def make(name: str) -> Path:
        os.mkfifo(tmp_path / name)
        return tmp_path / name

    return make


def test_a_regular_file_is_opened_through_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    assert check_regular_file(tmp_path / "link").st_size == 3
    with open_regular_file(tmp_path / "link") as file:
        assert file.read() == b"abc"
    (tmp_path / "empty").touch()
    assert read_bounded(tmp_path / "empty", 0) == b""


def test_a_pipe_is_not_opened(pipe: Path) -> None:
    with pytest.raises(SpecialFileError, match="it is a named pipe, not a regular file") as caught:
        open_regular_file(pipe)
    assert caught.value.filename == str(pipe)
    assert caught.value.errno == errno.EINVAL
    assert type(pickle.loads(pickle.dumps(caught.value))) is SpecialFileError
    assert explain_os_error(caught.value) == (
        "it is a named pipe, not a regular file",
        "copy its content to a regular file, and give that file",
    )


def test_links_to_pipes_and_sockets_are_not_opened(
    pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(SpecialFileError, match="a named pipe"):
        open_regular_file(tmp_path / "link")
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(SpecialFileError, match="it is a socket"):
            open_regular_file("socket")


def test_a_pipe_that_replaces_a_file_after_the_check_is_not_waited_for(
    pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    status = os.stat(tmp_path / "a")
    monkeypatch.setattr(regular_files, "check_regular_file", lambda path: status)
    with pytest.raises(SpecialFileError, match="a named pipe"):
        open_regular_file(pipe)


def test_folders_and_missing_files_keep_their_errors(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular_file(tmp_path / "missing")
    with pytest.raises(ValueError, match="null"):
        open_regular_file("a\0b")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_file_of_the_kernel_is_refused() -> None:
    with pytest.raises(SpecialFileError, match="it is a file of the kernel"):
        open_regular_file("/proc/self/status")


def test_a_large_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="it is larger than 64 MiB"):
        read_bounded(tmp_path / "a", 64 * 2**20)
    with pytest.raises(ValueError, match="it is larger than 64 MiB"):
        read_text(tmp_path / "a", 64 * 2**20)


def test_reading_a_small_file_reserves_no_memory_for_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    tracemalloc.start()
    try:
        assert read_bounded(tmp_path / "a", 2**31) == b"abc"
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**20


def test_a_file_that_grows_while_it_is_read_is_read_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    early_status = os.stat(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"abcdefgh")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda descriptor: early_status)
        assert read_bounded(tmp_path / "a", 8) == b"abcdefgh"
        with pytest.raises(ValueError, match="it is larger than 7 bytes"):
            read_bounded(tmp_path / "a", 7)


READERS: dict[str, Callable[[Path], object]] = {
    "labels.txt": read_labels,
    "labels.json": read_labels,
    "labels.yaml": read_labels,
    "images.txt": list_calibration_images,
    "images.npz": list_calibration_images,
    "truth.csv": lambda path: read_truth_file(path, ["1.jpg"]),
    "truth.json": lambda path: read_truth_file(path, ["1.jpg"]),
    "devkit.tar.gz": lambda path: read_truth_file(path, ["1.jpg"]),
    "images.tar": index_tar,
    "image.png": open_image,
    "data.json": read_json,
    "hash": sha256,
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_a_pipe(make_pipe: Callable[[str], Path], name: str) -> None:
    with pytest.raises((TinyViTError, SpecialFileError), match=r"named pipe|is not a file"):
        READERS[name](make_pipe(name))


def test_files_of_other_packages_refuse_a_pipe(make_pipe: Callable[[str], Path]) -> None:
    """Artifacts, records, checkpoints, settings and journals; each has the name of its kind."""
    for name in ("a.onnx", "a.ort", "a.tflite", "a.pte", "a.engine", "a.xml"):
        make_pipe(name)
    folder = make_pipe("a.pth").parent
    for name in ("a.safetensors", "record.json", "run.toml", "journal.jsonl"):
        make_pipe(name)
    run_limited(
        f"""
        from pathlib import Path
        from tinyvit.bench.accuracy.journal import PredictionLimits, open_journal
        from tinyvit.bench.record.record import Record, read_record
        from tinyvit.distill.training.config import read_config
        from tinyvit.nn.checkpoints.loading import load_checkpoint
        from tinyvit.runtimes.artifact import read_artifact

        def journal(path):
            with open_journal(path, {{}}, PredictionLimits(1, 1)):
                pass

        readers = dict.fromkeys(["a.onnx", "a.ort", "a.tflite", "a.pte", "a.engine", "a.xml"])
        readers = {{name: read_artifact for name in readers}}
        readers |= {{"a.pth": load_checkpoint, "a.safetensors": load_checkpoint}}
        readers |= {{"record.json": read_record, "run.toml": read_config}}
        readers["journal.jsonl"] = journal
        for name, read in readers.items():
            try:
                read(Path({str(folder)!r}, name))
            except Exception as error:
                assert "named pipe" in str(error), (name, error)
            else:
                raise SystemExit(f"{{name}} was accepted")
        """,
        memory_gib=8,
        timeout_s=120,
    )


def test_a_pipe_in_a_folder_of_images_is_not_an_image(
    make_pipe: Callable[[str], Path], tmp_path: Path
) -> None:
    make_pipe("1.png")
    (tmp_path / "2.png").write_bytes(b"image")
    listing = read_listing(tmp_path)
    assert listing.make_paths() == (tmp_path / "2.png",)
    assert listing.other_count == 1
    with pytest.raises(ImageError, match=r"1\.png is not a file"):
        open_image(tmp_path / "1.png")


def test_a_pipe_is_not_replaced_by_an_output(pipe: Path) -> None:
    with pytest.raises(RequestError, match="is a device, a pipe or a socket"):
        refuse_existing(pipe, overwrite=True)


@pytest.mark.parametrize("open_file", [open_regular_file, open_regular_file_for_update])
def test_a_pipe_that_takes_the_place_of_the_checked_file_is_refused(
    open_file: Callable[[Path], object], pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regular_files, "check_regular_file", lambda path: None)
    with pytest.raises(SpecialFileError, match="it is a named pipe"):
        open_file(pipe)


def test_a_file_that_is_open_for_update_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with open_regular_file_for_update(path) as file:
        assert read_open_file(file, 3) == b"abc"
        file.write(b"d")
    assert path.read_bytes() == b"abcd"
