"""/proc/cpuinfo tells which int8 files a processor computes correctly."""

from __future__ import annotations

import dataclasses
import platform
import warnings
from pathlib import Path

import pytest

from tests.helpers.small_classifiers import ArtifactBuilder, make_manifest
from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import Quantization
from tinyvit.runtimes import Artifact, open_runtime, processor

EPYC = (
    "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512_vnni\n"
    "\nprocessor\t: 1\nmodel name\t: other\nflags\t\t: fpu\n"
)
CORTEX_A53 = (
    "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU part\t: 0xd03\n"
)
RASPBERRY_PI_5 = (
    CORTEX_A53.replace("cpuid", "cpuid asimddp").replace("0xd03", "0xd0b")
    + "\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
)
NEOVERSE_V2 = CORTEX_A53.replace("cpuid", "cpuid asimddp i8mm bf16").replace("0xd03", "0xd4f")
RISCV = "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc\n"

FOR_VNNI = Quantization(
    method="",
    calibration_sha256="",
    calibration_count=0,
    recipe_sha256="",
    weight_bits=8,
    required_cpu_feature="vnni",
    float_units=(),
)
FOR_ANY_CPU = dataclasses.replace(FOR_VNNI, required_cpu_feature="any", weight_bits=7)


def check_int8_support(
    quantization: Quantization | None, machine: str, flags: frozenset[str] | None
) -> str:
    """Return the message of the error or warning, or "supported"."""
    manifest = dataclasses.replace(make_manifest("host", 1), quantization=quantization)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            processor.check_int8_support(manifest, machine, flags)
        except ArtifactError as error:
            return f"error: {error}"
    return f"warning: {caught[0].message}" if caught else "supported"


@pytest.mark.parametrize(
    ("quantization", "machine", "flags"),
    [
        (None, "x86_64", frozenset({"avx2"})),
        (FOR_ANY_CPU, "x86_64", frozenset({"avx2"})),
        (FOR_VNNI, "x86_64", frozenset({"avx2", "avx512_vnni"})),
        (FOR_VNNI, "AMD64", frozenset({"avx2", "avx_vnni"})),
        (FOR_VNNI, "aarch64", frozenset({"asimddp"})),
        (FOR_VNNI, "arm64", None),
    ],
)
def test_files_whose_sums_are_exact_are_supported(
    quantization: Quantization | None, machine: str, flags: frozenset[str] | None
) -> None:
    assert check_int8_support(quantization, machine, flags) == "supported"


def test_a_file_whose_sums_would_saturate_is_refused() -> None:
    outcome = check_int8_support(FOR_VNNI, "x86_64", frozenset({"avx2", "fma"}))
    assert outcome.startswith("error: ")
    assert "this processor has no VNNI" in outcome
    assert outcome.endswith("export it again without --cpu vnni")


def test_an_x86_system_that_reports_no_flags_gives_a_warning() -> None:
    outcome = check_int8_support(FOR_VNNI, "AMD64", None)
    assert outcome.startswith("warning: ")
    assert outcome.endswith("export the file again without --cpu vnni")


def test_opening_a_file_on_the_cpu_checks_the_processor(
    build_artifact: ArtifactBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = dataclasses.replace(make_manifest("host", 1), quantization=FOR_VNNI)
    artifact = Artifact(build_artifact(), manifest)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "read_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(ArtifactError, match="this processor has no VNNI"):
        open_runtime(artifact)
    monkeypatch.setattr(processor, "read_flags", lambda: frozenset({"avx_vnni"}))
    assert open_runtime(artifact).describe().precision == "float32"


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="no /proc/cpuinfo here")
def test_the_flags_of_this_processor_are_read() -> None:
    flags = processor.read_flags()
    assert flags
    assert {"fpu", "sse2"} <= flags or {"asimd", "fp"} & flags


@pytest.mark.parametrize(
    ("text", "machine", "description"),
    [
        (EPYC, "x86_64", "AMD EPYC (AVX-512 VNNI, AVX2)"),
        (CORTEX_A53, "aarch64", "Arm processor, implementer 0x41, part 0xd03"),
        (RASPBERRY_PI_5, "aarch64", "Raspberry Pi 5 Model B Rev 1.0 (dotprod)"),
        (NEOVERSE_V2, "aarch64", "Arm processor, implementer 0x41, part 0xd4f (dotprod, i8mm)"),
    ],
)
def test_a_processor_is_described(text: str, machine: str, description: str) -> None:
    assert processor.describe(processor.parse_cpuinfo(text, machine)) == description


@pytest.mark.parametrize(("text", "machine"), [(EPYC, "aarch64"), (NEOVERSE_V2, "x86_64")])
def test_the_host_of_an_emulator_is_not_taken_for_the_emulated_processor(
    text: str, machine: str
) -> None:
    assert processor.parse_cpuinfo(text, machine) is None


def test_a_processor_without_a_list_of_flags_has_no_features() -> None:
    facts = processor.parse_cpuinfo(RISCV, "riscv64")
    assert facts is not None
    assert facts["isa"] == "rv64imafdc"
    assert processor.list_features(facts) == ()
    assert "(" not in processor.describe(facts)
