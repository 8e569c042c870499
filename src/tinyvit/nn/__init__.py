"""TinyViT in PyTorch; the subpackage `checkpoints` loads its checkpoints.

This package needs torch, which `pip install 'tinyvit-edge[export]'` provides.
"""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401 - imported only to report that it is missing
except ImportError as error:
    raise MissingDependencyError.for_package("torch", extra="export") from error
