"""int8 quantization: from a float32 network to its recipe, and to the quantized network.

This package needs torch: pip install 'tinyvit-edge[export]'.
"""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401  (only its presence counts)
except ImportError as error:
    raise MissingDependencyError.of("torch", "export") from error
