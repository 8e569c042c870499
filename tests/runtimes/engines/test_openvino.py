"""The OpenVINO engine honors precisions and the cache, and refuses files that it cannot run."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.full_disk import fill_disk, mount_small_disk
from tests.helpers.processes import start_python, wait_for_entry
from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.files.file_locks import take_lock
from tinyvit.runtimes import RuntimeOptions, open_runtime, processor, read_artifact
from tinyvit.runtimes.engines import _openvino_cache
from tinyvit.runtimes.engines._openvino_cost import check_model_cost
from tinyvit.runtimes.engines._openvino_runtime import OpenVINORuntime
from tinyvit.runtimes.engines.openvino import choose_16_bit_precision, shared_core

openvino = pytest.importorskip("openvino")


def test_computes_in_the_requested_precision(build_artifact: ArtifactBuilder) -> None:
    path = build_artifact(".xml")
    assert open_runtime(path, "openvino").describe().precision == "float32"
    for precision in ("bfloat16", "float16"):
        # A processor without the instructions raises, and the message names its own precision.
        with contextlib.suppress(RequestError):
            runtime = open_runtime(path, "openvino", RuntimeOptions(precision=precision))
            assert runtime.describe().precision == precision


def test_int8_files_state_the_precision_of_the_rest(build_artifact: ArtifactBuilder) -> None:
    artifact = read_artifact(build_artifact(".xml"))
    assert artifact.manifest
    manifest = dataclasses.replace(artifact.manifest, precision="int8")
    with open_runtime(dataclasses.replace(artifact, manifest=manifest), "openvino") as runtime:
        assert runtime.describe().precision == "int8, the rest float32"


SAPPHIRE_RAPIDS = frozenset({"avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"})
GRANITE_RAPIDS = SAPPHIRE_RAPIDS | {"amx_fp16"}


@pytest.mark.parametrize(
    ("device", "capabilities", "flags", "precision"),
    [
        ("CPU", ["FP32", "FP16", "BF16", "INT8"], SAPPHIRE_RAPIDS, "bfloat16"),
        ("CPU", ["FP32", "BF16", "INT8"], frozenset({"avx512_bf16"}), "bfloat16"),
        ("CPU", ["FP32", "FP16", "BF16", "INT8"], None, "bfloat16"),
        ("CPU", ["FP32", "FP16", "BF16", "INT8"], GRANITE_RAPIDS, "float16"),
        ("CPU", ["FP32", "INT8"], frozenset({"avx2"}), "float16"),
        ("CPU", ["FP32", "FP16", "INT8"], frozenset({"asimd"}), "float16"),
        ("GPU", ["FP32", "BF16", "FP16", "INT8"], SAPPHIRE_RAPIDS, "float16"),
    ],
)
def test_float16_files_run_in_the_faster_16_bit_type(
    device: str, capabilities: list[str], flags: frozenset[str] | None, precision: str
) -> None:
    assert choose_16_bit_precision(device, capabilities, flags) == precision


def test_float16_files_state_the_precision_that_is_used(build_artifact: ArtifactBuilder) -> None:
    """Without a request, a float16 file runs in bfloat16 if the processor has it."""
    artifact = read_artifact(build_artifact(".xml"))
    assert artifact.manifest
    manifest = dataclasses.replace(artifact.manifest, precision="float16")
    artifact = dataclasses.replace(artifact, manifest=manifest)
    capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    flags = processor.read_flags() or frozenset()
    with open_runtime(artifact, "openvino") as runtime:
        precision = runtime.describe().precision
    if "BF16" in capabilities:
        assert precision == ("float16" if "amx_fp16" in flags else "bfloat16")
    else:
        assert precision in ("float16", "float32")
    if "FP16" in capabilities:
        with open_runtime(artifact, "openvino", RuntimeOptions(precision="float16")) as runtime:
            assert runtime.describe().precision == "float16"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_signals_work_after_files_were_closed_in_the_order_of_opening(
    build_artifact: ArtifactBuilder,
) -> None:
    code = (
        "import gc, os, signal, sys; from tinyvit.runtimes import open_runtime;"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'));"
        "first, second = (open_runtime(sys.argv[1], 'openvino') for _ in range(2));"
        "first.close(); del first; gc.collect(); second.close(); del second; gc.collect();"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(build_artifact(".xml"))], capture_output=True, text=True
    )
    assert (process.returncode, process.stdout) == (0, "handled\n"), process.stderr


def test_cache_keeps_the_compiled_model(build_artifact: ArtifactBuilder, tmp_path: Path) -> None:
    """A damaged cache file is compiled anew."""
    folder, batch = tmp_path / "new" / "folder", np.ones((2, 3, 32, 32), np.float32)
    loaded_from_cache, logits = [], []
    for is_damaged in (False, False, True):
        if is_damaged:
            for file in folder.iterdir():
                file.chmod(0o600)
                file.write_bytes(file.read_bytes()[:1000])
        options = RuntimeOptions(cache=folder)
        with open_runtime(build_artifact(".xml"), "openvino", options) as runtime:
            assert isinstance(runtime, OpenVINORuntime)
            logits.append(runtime.run(batch))
            loaded_from_cache.append(runtime.loaded_from_cache)
    assert loaded_from_cache == [False, True, False]
    assert np.array_equal(logits[0], logits[1])
    assert np.array_equal(logits[0], logits[2])


def test_a_cache_folder_is_used_by_one_process_at_a_time(
    build_artifact: ArtifactBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder, signals = build_artifact(".xml"), tmp_path / "cache", tmp_path / "signals"
    folder.mkdir()
    signals.mkdir()
    code = """
import sys, time
from pathlib import Path
from tinyvit.files.file_locks import hold_lock
with hold_lock(Path(sys.argv[1], ".lock"), "the cache", "use another"):
    Path(sys.argv[2], "held").touch()
    time.sleep(float(sys.argv[3]))
"""
    process = start_python(code, folder, signals, 1)
    assert wait_for_entry(signals, process)
    options = RuntimeOptions(cache=folder)
    with open_runtime(path, "openvino", options):
        assert process.wait(timeout=60) == 0  # it has ended, because this process waited for it
    assert {file.suffix for file in folder.iterdir()} == {".blob"}
    lock = take_lock(folder / ".lock")
    assert lock is not None
    monkeypatch.setattr(_openvino_cache, "_MAX_WAIT_S", 0.2)
    with pytest.raises(RequestError) as error:
        open_runtime(path, "openvino", options)
    assert str(error.value) == (
        f"another process is using the cache folder {folder}: wait until it ends, or give --cache"
        " another folder"
    )
    lock.release()


def test_a_cache_folder_without_write_permission_is_read(
    build_artifact: ArtifactBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, options = build_artifact(".xml"), RuntimeOptions(cache=tmp_path / "cache")
    open_runtime(path, "openvino", options).close()
    lock = take_lock(tmp_path / "cache" / ".lock")
    assert lock is not None
    # Permissions do not stop a superuser, so the answer of the system is replaced.
    monkeypatch.setattr(_openvino_cache.os, "access", lambda path, mode: False)
    with open_runtime(path, "openvino", options) as runtime:
        assert isinstance(runtime, OpenVINORuntime)
        assert runtime.loaded_from_cache
    lock.release()


def test_a_cache_on_a_full_disk_keeps_nothing(
    build_artifact: ArtifactBuilder, tmp_path: Path
) -> None:
    with mount_small_disk(tmp_path / "disk", 2**20) as disk:
        fill_disk(disk)
        options = RuntimeOptions(cache=disk / "cache")
        open_runtime(build_artifact(".xml"), "openvino", options).close()
        assert sum(path.stat().st_size for path in (disk / "cache").iterdir()) == 0


def test_a_cache_folder_that_cannot_be_created_is_an_error(
    build_artifact: ArtifactBuilder, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    options = RuntimeOptions(cache=tmp_path / "file" / "folder")
    with pytest.raises(RequestError, match="cannot be created"):
        open_runtime(build_artifact(".xml"), "openvino", options)


def test_without_a_cache_there_is_nothing_to_load(build_artifact: ArtifactBuilder) -> None:
    with open_runtime(build_artifact(".xml"), "openvino") as runtime:
        assert isinstance(runtime, OpenVINORuntime)
        assert runtime.loaded_from_cache is None


def test_onnx_files_that_resize_are_refused(build_artifact: ArtifactBuilder) -> None:
    with pytest.raises(RequestError, match="--target openvino --preprocess full"):
        open_runtime(build_artifact(embedded_preprocessing="full"), "openvino")


def test_both_files_of_an_ir_are_needed(copy_artifact: ArtifactBuilder) -> None:
    path = copy_artifact(".xml")
    path.with_suffix(".bin").write_bytes(b"12")
    with pytest.raises(ArtifactError):
        open_runtime(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ArtifactError, match="next to it"):
        open_runtime(path)


def test_products_of_large_matrices_are_counted_exactly() -> None:
    """At 1024 pixels, the layers of MobileSAM's encoder have 16,384 tokens of 128 channels."""
    from openvino import opset11 as ops

    tokens = ops.parameter([1, 16384, 128], np.float32)
    layers = tokens
    weight = ops.constant(np.zeros((128, 128), np.float32))
    for _ in range(20):
        layers = ops.matmul(layers, weight, transpose_a=False, transpose_b=False)
    assert check_model_cost(openvino.Model([layers], [tokens]), "layers.xml")


def test_products_with_a_transposed_matrix_are_counted_exactly() -> None:
    """2000 x 2000 sums of 60,000 products are 240 billion multiplications."""
    from openvino import opset11 as ops

    columns = ops.parameter([1, 60000, 2000], np.float32)
    product = ops.matmul(columns, columns, transpose_a=True, transpose_b=False)
    with pytest.raises(ArtifactError, match="more than 200 billion multiplications"):
        check_model_cost(openvino.Model([product], [columns]), "product.xml")
