"""Conversion of the records of a pickle to plain values: settings, labels and other metadata."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyvit.nn.checkpoints.metadata.settings_text import CLASS_KEY
from tinyvit.nn.checkpoints.pickles.numpy_records import read_array, read_dtype
from tinyvit.nn.checkpoints.pickles.records import (
    PickledName,
    PickledObject,
    UnorderedList,
    read_attributes,
)
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import (
    ReadStorage,
    StoredTensor,
    make_stored_tensor,
)

_MAX_VALUES = 300_000
"""A value with more entries than this is converted to None."""

_MAX_ALL_VALUES = 3_000_000
"""When all converted values of a file have this number of entries together, further values become
None. In a small file, values can contain each other many times."""

_MAX_DEPTH = 24
"""Values that are nested deeper become None."""

MAX_KEY_LENGTH = 1000
"""Entries with longer keys, in characters, are left out: the searches in the values join the keys
of nested dicts, so they copy long keys many times."""

_MAX_TENSOR_ELEMENTS = 4096
"""Tensors and arrays of numbers with more elements become None."""

_MAX_TENSORS = 64
"""Further tensors in a value, as in the state of an optimizer, become None."""

_CONTENT_ATTRIBUTES = ("_content", "_fields", "_cfg_dict", "_val")
"""Attributes in which the settings objects of OmegaConf, ml_collections and mmengine hold their
content."""

_LIST_CLASSES = ("fastai.data.transforms.CategoryMap", "fastcore.foundation.L")
"""Classes of fastai whose objects are lists; the attribute `items` contains their entries."""

_TRANSFORM_MODULES = (
    "torchvision.transforms.",
    "albumentations.",
    "timm.data.",
    "fastai.data.transforms.",
    "fastai.vision.augment.",
    "fastai.vision.core.",
    "kornia.",
    "monai.transforms.",
)
"""Beginnings of the names of classes of transforms. The dict of such an object also contains the
name of the class."""


class _TooManyValuesError(Exception):
    """A value has more than `_MAX_VALUES` entries."""


class PlainConverter:
    """Converts the records of one file to plain values, and limits the number of all of them."""

    def __init__(self, read_storage: ReadStorage) -> None:
        """Create a converter for a file.

        Args:
            read_storage: Returns the bytes of a storage of the file.
        """
        self._read_storage = read_storage
        self._remaining_count = _MAX_ALL_VALUES

    def convert(self, value: Any) -> Any:
        """Convert records to plain values.

        Args:
            value: A record of a pickle, or plain values.

        Returns:
            Nested dicts, lists, strings, numbers, booleans and None. Keys are strings. Objects
            become dicts of their attributes, enums become their value, paths and bytes become
            strings, constants of torch become their name, small tensors and arrays become lists,
            and sets become lists of the type `UnorderedList`. Everything else becomes None, and so
            does a value with too many entries.
        """
        converter = _Converter(self._read_storage, min(_MAX_VALUES, self._remaining_count))
        try:
            return converter.convert(value, 0)
        except _TooManyValuesError:
            return None
        finally:
            self._remaining_count -= converter.count


class _Converter:
    """Converts one value, and counts its entries."""

    def __init__(self, read_storage: ReadStorage, max_count: int) -> None:
        self.read_storage = read_storage
        self.max_count = max_count
        self.count = 0
        self.tensor_count = 0

    def convert(self, value: Any, depth: int) -> Any:
        """Convert a value at this depth of nesting."""
        self.count += 1
        if self.count > self.max_count:
            raise _TooManyValuesError
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if depth >= _MAX_DEPTH:
            return None
        is_container = isinstance(value, (dict, list, tuple))
        if is_container and self.count + len(value) > self.max_count:
            raise _TooManyValuesError
        if isinstance(value, dict):
            return self.convert_dict(value, depth)
        if is_container:
            entries = [self.convert(entry, depth + 1) for entry in value]
            return UnorderedList(entries) if isinstance(value, UnorderedList) else entries
        if isinstance(value, PickledName):
            # A constant of torch, such as torch.float16, is a setting. Other names are classes or
            # functions.
            return value.name if value.name.startswith("torch.") else None
        if isinstance(value, StoredTensor):
            return _convert_tensor(value)
        return self.convert_object(value, depth) if isinstance(value, PickledObject) else None

    def convert_dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        """Convert a dict; keys that are long, or neither strings nor numbers, are left out."""
        # Keys that are containers are left out anyway, and at this depth their content is not
        # converted.
        return {
            plain_key: self.convert(entry, depth + 1)
            for key, entry in value.items()
            if (plain_key := _make_key(self.convert(key, _MAX_DEPTH - 1))) is not None
        }

    def convert_object(self, record: PickledObject, depth: int) -> Any:
        """Convert a tensor, an array, a NumPy scalar or another object."""
        if record.name.endswith("multiarray.scalar"):
            return _convert_scalar(record)
        try:
            tensor = make_stored_tensor(record, self.read_storage)
        except (ValueError, TypeError, AttributeError, IndexError):
            return None
        if tensor is not None:
            self.tensor_count += 1
            return _convert_tensor(tensor) if self.tensor_count <= _MAX_TENSORS else None
        if record.name.endswith("multiarray._reconstruct"):
            return self.convert_array(record)
        return self.convert_instance(record, depth)

    def convert_instance(self, record: PickledObject, depth: int) -> Any:
        """Convert an object that is neither a tensor nor from NumPy."""
        if record.items:
            return self.convert_dict(record.items, depth)
        if record.name in _LIST_CLASSES:
            return self.convert(read_attributes(record.state).get("items"), depth + 1)
        if is_transform(record):
            attributes = self.convert_dict(read_attributes(record.state), depth)
            public = {key: value for key, value in attributes.items() if not key.startswith("_")}
            return {**public, CLASS_KEY: record.name}
        if record.entries:
            return [self.convert(entry, depth + 1) for entry in record.entries]
        if record.state:
            return self.convert_state(record.state, depth)
        # An enum may be pickled as getattr(class, name of the member).
        if record.name == "builtins.getattr" and len(record.args) == 2:
            return record.args[1] if isinstance(record.args[1], str) else None
        if record.name.startswith("datetime."):
            return None
        # The arguments of other objects are the value of an enum, or the entries of a named tuple.
        if len(record.args) == 1:
            return self.convert(record.args[0], depth + 1)
        return [self.convert(entry, depth + 1) for entry in record.args] or None

    def convert_state(self, state: Any, depth: int) -> Any:
        """Convert the attributes of an object."""
        attributes = read_attributes(state)
        for name in _CONTENT_ATTRIBUTES:
            if name in attributes:
                return self.convert(attributes[name], depth + 1)
        return self.convert_dict(attributes, depth)

    def convert_array(self, record: PickledObject) -> Any:
        """Convert a NumPy array of texts or of objects; arrays of numbers are stored tensors."""
        try:
            array = read_array(record)
            if array is not None and array.size <= _MAX_VALUES:
                # The list of an array of shape (10**9, 0) would have a billion entries.
                return array.tolist() if array.size else []
        # NumPy raises SystemError for texts that contain numbers beyond Unicode.
        except (ValueError, TypeError, OverflowError, SystemError):
            return None
        content = record.state[-1] if isinstance(record.state, tuple) and record.state else None
        entries = content if isinstance(content, list) else []
        # At this depth, entries that are containers themselves become None.
        return [self.convert(entry, _MAX_DEPTH) for entry in entries] or None


def is_transform(value: Any) -> bool:
    """Return whether a record is a transform of images, such as torchvision's Resize."""
    if not isinstance(value, PickledObject) or not value.name.startswith(_TRANSFORM_MODULES):
        return False
    if value.name in _LIST_CLASSES:
        return False
    # Enums in these modules, such as torchvision's InterpolationMode, have arguments. Transforms
    # have attributes instead.
    return not isinstance(value.args, tuple) or not value.args


def _make_key(value: Any) -> str | None:
    """Return a plain value as the key of a dict; None if it cannot be one."""
    is_key = isinstance(value, (int, float)) or (
        isinstance(value, str) and len(value) <= MAX_KEY_LENGTH
    )
    return str(value) if is_key else None


def _convert_scalar(record: PickledObject) -> Any:
    """Convert a NumPy scalar, whose arguments are its dtype and its bytes."""
    if len(record.args) != 2:
        return None
    content = record.args[1]
    try:
        dtype = read_dtype(record.args[0])
        content = content.encode("latin-1") if isinstance(content, str) else content
        if dtype is None or not isinstance(content, bytes) or len(content) != dtype.itemsize:
            return None
        return np.frombuffer(content, dtype)[0].item()
    except (ValueError, TypeError, SystemError):
        return None


def _convert_tensor(tensor: StoredTensor) -> Any:
    """Convert a small tensor to a number or nested lists of numbers; return None for others."""
    if tensor.problem or math.prod(tensor.shape) > _MAX_TENSOR_ELEMENTS:
        return None
    if 0 in tensor.shape:
        return []  # the list of a tensor of shape (10**9, 0) would have a billion entries
    try:
        return tensor.load().tolist()
    except ValueError:
        return None
