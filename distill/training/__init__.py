"""Training of students from a store, from labels, or from both.

Needs `pip install 'tinyvit-edge[train]'`.
"""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401 - only to fail early with the right remedy
except ImportError as error:
    raise MissingDependencyError.of("torch", "train") from error
