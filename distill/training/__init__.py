"""Students: from a store or from labels to a checkpoint. Needs pip install 'tinyvit-edge[train]'."""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError.of("torch", "train") from error
