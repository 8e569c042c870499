"""Saves a teacher's predictions in a store, and reads, checks and converts stores.

A store is a folder that holds, for every view (augmented version of an image), the seed of the
augmentation and the teacher's K largest class probabilities. The paper (Wu et al., "TinyViT") calls
these saved probabilities "logits", and the names in this package follow the paper.
`save.save_logits` fills a store, and `store.open_store` opens one.

The package needs `pip install 'tinyvit-edge[train]'`.
"""

from tinyvit.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401 - only to fail early with the right remedy
except ImportError as error:
    raise MissingDependencyError.for_package("torch", extra="train") from error
