"""Class labels: those of ImageNet, and those that users provide in files or as Python objects.

imagenet     the labels of ImageNet-1k and ImageNet-22k
label_files  reading a user's file of labels
label_data   lists and dicts, from JSON, from a Python literal or from a caller
label_lines  lines of text, each with a name and possibly an index or a WordNet id
label_tables rows of cells, such as those of a .csv file
label_construction  making labels from names, in the order of their indices
label_keys   keys under which labels are usual
label_containers  finding the labels in a dict by these keys
label_decorations  removing bullets, quotes and commas around names
line_checks  refusing lines that are no labels
unknown_keys refusing lines with an index in an unknown form
literals     reading Python's notation of lists and dicts without executing it
yaml_labels  finding the labels in YAML
"""

from tinyvit.labels.imagenet import (
    MAX_CLASSES,
    Label,
    describe_label,
    describe_labels,
    imagenet_labels,
    labels_by_wnid,
    numbered_labels,
)
from tinyvit.labels.label_data import LabelNames, labels_from_data
from tinyvit.labels.label_files import FORMATS, read_labels

__all__ = [
    "FORMATS",
    "MAX_CLASSES",
    "Label",
    "LabelNames",
    "describe_label",
    "describe_labels",
    "imagenet_labels",
    "labels_by_wnid",
    "labels_from_data",
    "numbered_labels",
    "read_labels",
]
