"""The options of the target "tensorrt"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tinyvit.errors import RequestError
from tinyvit.export.targets.base import TargetOption
from tinyvit.runtimes import cuda

TURING = "7.5"
"""Compute capability (NVIDIA's version number of a GPU) of the oldest cards that TensorRT-RTX
supports, the generation Turing."""

RTX_COMPUTE = ("8.6", "8.9", "12.0")
"""Compute capabilities that one TensorRT-RTX engine can support together, according to NVIDIA's
support matrix: Ampere, Ada and Blackwell. Turing needs a separate engine."""

TENSORRT_OPTIONS = (
    TargetOption(
        "flavor",
        "rtx: for RTX cards, built here without a GPU; classic: for Jetson and data centers, built "
        "on the device (default: the flavor that is installed).",
        choices=tuple(cuda.PRODUCTS),
    ),
    TargetOption(
        "compute",
        "Flavor rtx: compute capabilities of the cards, separated by commas; 7.5 cannot be "
        "combined with others (default: 8.6,8.9,12.0).",
        metavar="CAPABILITIES",
    ),
    TargetOption(
        "timing_cache",
        "Flavor classic: file for the builder's measurements. Builds that share it make the same "
        "engine.",
        metavar="FILE",
    ),
    TargetOption(
        "version_compatible",
        "Flavor classic: whether later releases of TensorRT can open the engine (default: no).",
        choices=("yes", "no"),
    ),
)


@dataclass(frozen=True)
class TensorRtOptions:
    """How TensorRT engines (compiled networks) are built: the options of the TensorRT target.

    Attributes:
        flavor: "rtx" or "classic"; None for the one that is installed.
        compute: Compute capabilities such as "8.6"; empty for `RTX_COMPUTE` (flavor rtx) or for
            the GPU of this machine (flavor classic).
        timing_cache: File with the measurements of earlier builds, for the flavor classic. Builds
            that share it make the same engine.
        version_compatible: Whether later releases of TensorRT can open the engine, for the flavor
            classic. A later release then needs the "lean runtime", a library of the release that
            built the engine. The engine does not contain this library; the application must load
            the library itself.

    Raises:
        RequestError: The flavor cannot do what is requested.
    """

    flavor: cuda.Flavor | None = None
    compute: tuple[str, ...] = ()
    timing_cache: Path | None = None
    version_compatible: bool = False

    def __post_init__(self) -> None:
        """Check that the flavor supports the other options."""
        if self.resolved_flavor not in cuda.PRODUCTS:
            raise RequestError(
                f"TensorRT has no flavor {self.flavor!r}", f"use {' or '.join(cuda.PRODUCTS)}"
            )
        if self.resolved_flavor == "rtx":
            self._check_rtx()
        elif self.compute:
            raise RequestError(
                "--compute does not apply to classic TensorRT, which builds for the GPU it runs on",
                "leave out --compute, or use --flavor rtx",
            )

    def _check_rtx(self) -> None:
        """Raise RequestError if an option is impossible with TensorRT-RTX."""
        if self.timing_cache is not None:
            raise RequestError(
                "--timing-cache does not apply to TensorRT-RTX, which measures nothing "
                "while it builds",
                "leave out --timing-cache, or use --flavor classic",
            )
        if self.version_compatible:
            raise RequestError(
                "--version-compatible does not apply to TensorRT-RTX, which opens only engines "
                "of its own release",
                "leave out --version-compatible, or use --flavor classic",
            )
        supported = (TURING, *RTX_COMPUTE)
        unsupported = [compute for compute in self.compute if compute not in supported]
        if unsupported:
            raise RequestError(
                f"TensorRT-RTX cannot build for compute capability {unsupported[0]}",
                f"use {', '.join(supported)}; Jetson and data centers need --flavor classic",
            )
        if TURING in self.compute and len(self.compute) > 1:
            raise RequestError(
                f"compute capability {TURING} (Turing) needs a separate engine",
                f"export once with --compute {TURING}, and once for the others",
            )

    @property
    def resolved_flavor(self) -> cuda.Flavor:
        """Return the flavor to build with: `flavor`, or the installed one if that is None."""
        return self.flavor or cuda.installed_flavor()

    @property
    def resolved_compute(self) -> tuple[str, ...]:
        """Return the compute capabilities to build for; empty for the GPU of this machine."""
        return self.compute or (RTX_COMPUTE if self.resolved_flavor == "rtx" else ())


def parse_options(values: Mapping[str, str]) -> TensorRtOptions:
    """Read the options of the command line.

    Args:
        values: Name of an option in `TENSORRT_OPTIONS` -> its value as text.

    Returns:
        The checked options.

    Raises:
        RequestError: The flavor cannot do what is requested.
    """
    timing_cache = values.get("timing_cache")
    compute = (text.strip() for text in values.get("compute", "").split(","))
    return TensorRtOptions(
        flavor=cast("cuda.Flavor | None", values.get("flavor")),
        compute=tuple(text for text in compute if text),
        timing_cache=None if timing_cache is None else Path(timing_cache),
        version_compatible=values.get("version_compatible") == "yes",
    )
