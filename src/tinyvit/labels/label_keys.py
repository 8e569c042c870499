"""Keys under which labels are usual, in label files and in checkpoints."""

from __future__ import annotations

import re

INDEX_TO_NAME_KEYS = (
    "id2label",
    "idx_to_class",
    "idx2class",
    "idx2label",
    "idx_to_label",
    "index_to_class",
    "index_to_name",
)
"""Keys of maps from the index of a class to its name."""

NAME_TO_INDEX_KEYS = (
    "class_to_idx",
    "class_to_index",
    "class2idx",
    "label2id",
    "label_to_idx",
    "label2idx",
    "name_to_index",
    "class_indices",  # of Keras' generators of images
)
"""Keys of maps from the name of a class to its index."""

MAP_KEYS = (*INDEX_TO_NAME_KEYS, *NAME_TO_INDEX_KEYS, "label_map", "class_map")
"""Keys of maps between indices and names. The last two keys are used for both directions."""

LIST_KEYS = (
    "labels",
    "class_names",
    "classes",
    "label_names",
    "classes_",  # of scikit-learn's LabelEncoder
)
"""Keys of lists that are usually in the order of the logits."""

VAGUE_KEYS = ("categories", "names", "vocab")
"""Keys of lists that often, but not always, contain the labels."""

LABEL_KEYS = (*MAP_KEYS, *LIST_KEYS, *VAGUE_KEYS)
"""All of these keys, those of maps first."""


COUNT_KEYS = frozenset(
    (
        "nc",  # of YOLO
        "num_classes",
        "num_labels",
        "n_classes",
        "class_count",
        "number_of_classes",
    )
)
"""Keys of the number of classes."""

PLACEHOLDER = re.compile(r"(LABEL|label|class)[_ ]?\d+")
"""Matches names such as "LABEL_0", which Hugging Face writes if the names are not known."""


def normalize_key(key: str) -> str:
    """Return a key in lower case, with "_" between its words.

    "classNames", "class-names" and "Class Names" all become "class_names".

    Args:
        key: The key, or the title of a column, as it is in the file.
    """
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.strip())
    return re.sub(r"[\s-]+", "_", separated).lower()
