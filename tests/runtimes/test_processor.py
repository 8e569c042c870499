from dataclasses import replace
from pathlib import Path

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.manifest import Quantization
from tinyvit.runtimes import processor as cpu
from tinyvit.runtimes.artifact import open_artifact

X86 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512_vnni\n\nprocessor\t: 1\nmodel name\t: other\nflags\t\t: fpu\n"
A53 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n"
A76 = (
    A53.replace("cpuid", "cpuid asimddp").replace("0xd03", "0xd0b")
    + "\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
)
V2 = A53.replace("cpuid", "cpuid asimddp i8mm bf16").replace("0xd03", "0xd4f")
RISCV = "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc\n"

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
    cpu.check_int8_support(replace(manifest, quantization=quantization), machine, flags)


def test_a_file_that_would_saturate_is_refused(manifest):
    with pytest.raises(ArtifactError, match=r"no VNNI.*export it again without --cpu vnni"):
        cpu.check_int8_support(
            replace(manifest, quantization=VNNI), "x86_64", frozenset({"avx2", "fma"})
        )


def test_an_x86_system_that_does_not_tell_warns(manifest):
    with pytest.warns(UserWarning, match="without --cpu vnni"):
        cpu.check_int8_support(replace(manifest, quantization=VNNI), "AMD64", None)


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="no /proc/cpuinfo here")
def test_flags_are_read():
    found = cpu.flags()
    assert found
    assert {"fpu", "sse2"} <= found or {"asimd", "fp"} & found


@pytest.mark.parametrize(
    ("text", "machine", "told"),
    [
        (X86, "x86_64", "AMD EPYC (AVX-512 VNNI, AVX2)"),
        (A53, "aarch64", "Arm processor, implementer 0x41, part 0xd03"),
        (A76, "aarch64", "Raspberry Pi 5 Model B Rev 1.0 (dotprod)"),
        (V2, "aarch64", "Arm processor, implementer 0x41, part 0xd4f (dotprod, i8mm)"),
    ],
)
def test_a_processor_is_described_by_what_it_has(text, machine, told):
    assert cpu.describe(cpu.first_processor(text, machine)) == told


@pytest.mark.parametrize(("text", "machine"), [(X86, "aarch64"), (V2, "x86_64")])
def test_the_processor_under_an_emulator_is_not_taken_for_the_emulated_one(text, machine):
    assert cpu.first_processor(text, machine) is None


def test_a_processor_without_a_list_of_flags_has_none():
    facts = cpu.first_processor(RISCV, "riscv64")
    assert facts is not None
    assert facts["isa"] == "rv64imafdc"
    assert "(" not in cpu.describe(facts)
