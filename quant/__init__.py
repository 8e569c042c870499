"""int8 quantization: calibrates a float32 network and makes the quantized network.

This package needs torch: pip install 'tinyvit-edge[export]'.
"""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401  (checks that torch is installed)
except ImportError as error:
    raise MissingDependencyError.for_package("torch", extra="export") from error
