"""Trains students, which are TinyViT networks, from a store, from class labels, or from both.

A store is a folder of saved teacher predictions; the package `logits` makes stores.

The package needs `pip install 'tinyvit-edge[train]'`.
"""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401 - only to fail early with the right remedy
except ImportError as error:
    raise MissingDependencyError.for_package("torch", extra="train") from error
