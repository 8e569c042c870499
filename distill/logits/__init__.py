"""Saving teacher outputs in a store, and reading, checking and converting stores.

`save.save_logits` fills a store, and `store.open_store` opens one. A store is a folder that keeps,
for every view (augmented version of an image), its seed and the teacher's K largest probabilities.
The paper calls these saved outputs logits, and so do the names here.

Needs `pip install 'tinyvit-edge[train]'`.
"""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401 - only to fail early with the right remedy
except ImportError as error:
    raise MissingDependencyError.for_package("torch", extra="train") from error
