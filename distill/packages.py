"""Checks that packages of the extra "train" are installed, without importing them.

The import of torch alone takes seconds, so the commands check all packages before it.
"""

from __future__ import annotations

from importlib.util import find_spec

from tinyvit.errors import MissingDependencyError

_EXTRA = "train"
_TRAINING_PACKAGES = ("torch", "safetensors", "tomli_w", "tensorboard", "matplotlib")
"""Packages that a training run needs."""


def require_training_packages() -> None:
    """Check all packages before any work, so that a run does not fail when it first writes a file.

    Raises:
        MissingDependencyError: A package is not installed.
    """
    require_packages(*_TRAINING_PACKAGES)


def require_packages(*packages: str) -> None:
    """Check that packages of the extra "train" are installed.

    Args:
        packages: Names under which the packages are imported.

    Raises:
        MissingDependencyError: A package is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError.for_package(package, extra=_EXTRA)
