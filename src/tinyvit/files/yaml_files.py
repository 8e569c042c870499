"""Parsing of untrusted YAML, with limits on its size and nesting depth.

PyYAML splits the text into events, from which this module builds plain values. No object of another
type is constructed: all scalars stay strings, so that names such as "no" and "1e3" are unchanged,
and tags such as !!python/tuple are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from tinyvit.errors import MissingDependencyError

MAX_CHARACTERS = 2**20
"""Longest YAML text that is parsed. PyYAML reads only about 100,000 characters per second."""

MAX_EVENTS = 250_000
"""Largest number of values in a YAML text; the start and the end of a list or map count too. PyYAML
reads 30,000 of them per second. The labels of ImageNet-22k have 44,000."""

MAX_DEPTH = 32
"""Largest accepted depth to which lists and maps in a YAML text may be nested."""

YamlValue: TypeAlias = "str | list[YamlValue] | dict[str, YamlValue]"
"""A value in a YAML text. An empty value is an empty string."""

_SHOWN_KEY_CHARACTERS = 40
"""Longer keys are cut off in error messages."""


def parse_yaml(text: str) -> YamlValue:
    """Parse a YAML text from an untrusted source.

    Args:
        text: YAML with at most one document.

    Returns:
        Nested dicts and lists of strings; an empty string if the text has no document.

    Raises:
        ValueError: The text is too long, is not YAML, has several documents, is nested deeper than
            MAX_DEPTH, or contains an anchor, an alias, a key that occurs twice, or a key that is a
            list or a map. The message is a clause, in which "it" is the text.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError.for_package("PyYAML", extra="export") from error
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it is longer than {MAX_CHARACTERS} characters")
    try:
        return _Builder(yaml.parse(text, Loader=yaml.BaseLoader)).build_document()
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"it is not YAML: {error.problem}{line}") from error
    # PyYAML raises OverflowError for an escape such as "\UFFFFFFFF", which is no character.
    except (yaml.YAMLError, OverflowError) as error:
        raise ValueError(f"it is not YAML: {error}") from error


class _Builder:
    """Builds values from the events of PyYAML's parser.

    There is an event for each scalar, and for the start and the end of each list, map and document.
    The parser creates them one by one and does not recurse, so deep nesting is refused early.
    """

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = _limit_events(events)

    def build_document(self) -> YamlValue:
        """Return the value of the only document; an empty string if there is no document."""
        value: YamlValue = ""
        document_count = 0
        for event in self._events:
            if _get_kind(event) == "DocumentStart":
                document_count += 1
                if document_count > 1:
                    raise ValueError("it has several documents")
                value = self._build_value(next(self._events), depth=0)
        return value

    def _build_value(self, first_event: Any, depth: int) -> YamlValue:
        """Return the value whose first event was already taken from the events."""
        kind = _get_kind(first_event)
        if first_event.anchor is not None:  # the event of an alias has the name of its anchor
            line = first_event.start_mark.line + 1
            raise ValueError(f"line {line} has an anchor (&) or an alias (*)")
        if kind == "Scalar":
            return str(first_event.value)
        if depth >= MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        if kind == "SequenceStart":
            return self._build_list(depth + 1)
        return self._build_dict(depth + 1)

    def _build_list(self, depth: int) -> list[YamlValue]:
        values: list[YamlValue] = []
        for event in self._events:
            if _get_kind(event) == "SequenceEnd":
                break
            values.append(self._build_value(event, depth))
        return values

    def _build_dict(self, depth: int) -> dict[str, YamlValue]:
        values: dict[str, YamlValue] = {}
        for event in self._events:
            if _get_kind(event) == "MappingEnd":
                break
            key = self._build_value(event, depth)
            if not isinstance(key, str):
                raise ValueError(f"line {event.start_mark.line + 1} has a list or a map as key")
            if key in values:
                raise ValueError(f"the key {key[:_SHOWN_KEY_CHARACTERS]} occurs twice")
            values[key] = self._build_value(next(self._events), depth)
        return values


def _limit_events(events: Iterator[Any]) -> Iterator[Any]:
    """Yield the events; raise ValueError if there are more than `MAX_EVENTS`."""
    for count, event in enumerate(events, 1):
        if count > MAX_EVENTS:
            raise ValueError(f"it has more than {MAX_EVENTS} values")
        yield event


def _get_kind(event: Any) -> str:
    """Return the name of the class of an event without "Event", such as "Scalar"."""
    return type(event).__name__.removesuffix("Event")
