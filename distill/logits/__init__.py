"""Teachers' answers, stored once: `save_logits(...)` makes a store, `open_store(...)` opens it. Needs pip install 'tinyvit-edge[train]'."""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError.of("torch", "train") from error
