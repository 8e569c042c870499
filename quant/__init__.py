"""A float network -> its int8 recipe, and the network with the recipe applied. Needs torch: pip install 'tinyvit-edge[export]'."""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError.of("torch", "export") from error
