"""Checks that the packages that a training run needs are installed."""

from __future__ import annotations

from importlib.util import find_spec

from tinyvit.errors import MissingDependencyError

_EXTRA = "train"
_PACKAGES = ("safetensors", "tomli_w", "tensorboard", "matplotlib")
"""Packages that a run uses when it writes files. torch is not listed, because the package
`training` cannot be imported without it."""


def require_training_packages() -> None:
    """Check all packages before any work, so that a run does not fail when it first writes a file.

    Raises:
        MissingDependencyError: A package is not installed.
    """
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingDependencyError.for_package(package, extra=_EXTRA)
