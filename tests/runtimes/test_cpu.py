from dataclasses import replace
from pathlib import Path

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.manifest import Quantization
from tinyvit.runtimes import cpu
from tinyvit.runtimes.artifact import open_artifact

VNNI = Quantization("", "", 0, "", 8, "vnni", ())


@pytest.fixture
def manifest(demo):
    found = open_artifact(demo["onnx"]).manifest
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("quantization", "machine", "flags"),
    [
        (None, "x86_64", frozenset({"avx2"})),
        (replace(VNNI, cpu="any", weight_bits=7), "x86_64", frozenset({"avx2"})),
        (VNNI, "x86_64", frozenset({"avx2", "avx512_vnni"})),
        (VNNI, "AMD64", frozenset({"avx2", "avx_vnni"})),
        (VNNI, "aarch64", frozenset({"asimddp"})),
        (VNNI, "arm64", None),
    ],
)
def test_right_files_open(manifest, quantization, machine, flags):
    cpu.refuse_where_wrong(replace(manifest, quantization=quantization), machine, flags)


def test_a_file_that_would_saturate_is_refused(manifest):
    with pytest.raises(ArtifactError, match=r"no VNNI.*export it again without --cpu vnni"):
        cpu.refuse_where_wrong(replace(manifest, quantization=VNNI), "x86_64", frozenset({"avx2", "fma"}))


def test_an_x86_system_that_does_not_tell_warns(manifest):
    with pytest.warns(UserWarning, match="without --cpu vnni"):
        cpu.refuse_where_wrong(replace(manifest, quantization=VNNI), "AMD64", None)


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="no /proc/cpuinfo here")
def test_flags_are_read():
    found = cpu.flags()
    assert found
    assert {"fpu", "sse2"} <= found or {"asimd", "fp"} & found
