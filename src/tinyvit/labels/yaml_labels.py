"""Finds the labels in the content of a YAML file, such as the data.yaml of a YOLO dataset."""

from __future__ import annotations

from collections.abc import Iterator

from tinyvit.files.yaml_files import YamlValue, parse_yaml
from tinyvit.labels.imagenet import Label
from tinyvit.labels.label_data import labels_from_data
from tinyvit.labels.label_keys import LABEL_KEYS, normalize_key


def parse_yaml_labels(text: str) -> tuple[Label, ...]:
    """Return the labels in a YAML file.

    The labels are a list or a map under a usual key such as "names", at any depth. If there is no
    such key, the whole file is a list of names or a map with an index as the first key.

    Args:
        text: The content of the file.

    Returns:
        The labels in the order of the logits; none if the list or the map is empty.

    Raises:
        ValueError: The text is not YAML, contains no labels, several maps can contain them, or
            they have a form that `labels_from_data` refuses.
        MissingDependencyError: PyYAML is not installed.
    """
    content = parse_yaml(text)
    containers = list(_find_containers(content))
    if len(containers) > 1:
        raise ValueError("several of its maps can contain the labels")
    if containers:
        return labels_from_data(containers[0])
    if isinstance(content, dict) and next(iter(content), "")[:1].isdecimal():
        return labels_from_data(content)
    if isinstance(content, list):
        return labels_from_data(content)
    raise ValueError("it has no list of names, and no key such as names or classes")


def _find_containers(value: YamlValue) -> Iterator[dict[str, YamlValue]]:
    """Yield every dict that has lists or maps under usual keys of labels.

    Lists and maps under its other keys are searched further.
    """
    if isinstance(value, list):
        for element in value:
            yield from _find_containers(element)
    elif isinstance(value, dict):
        label_keys = {
            key
            for key, inner_value in value.items()
            if normalize_key(key) in LABEL_KEYS and not isinstance(inner_value, str)
        }
        if label_keys:
            yield value
        for key, inner_value in value.items():
            if key not in label_keys:
                yield from _find_containers(inner_value)
