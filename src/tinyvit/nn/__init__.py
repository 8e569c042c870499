"""The PyTorch model, its checkpoints, and the hub that they come from.

This package needs torch, which `pip install 'tinyvit-edge[export]'` provides.
"""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401 - imported only to report that it is missing
except ImportError as error:
    raise MissingDependencyError.of("torch", "export") from error
