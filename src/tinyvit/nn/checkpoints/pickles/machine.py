"""Reading of pickles as plain records, without importing or calling anything that they name.

A pickle is a program for a small stack machine. `read_pickle` runs this machine, but where Python
would import a class or call a function, it only records the name and the arguments. The result is a
tree of plain Python values and of the records in `tinyvit.nn.checkpoints.pickles.records`.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from tinyvit.nn.checkpoints.pickles.calls import make_dict, measure_copy, record_call
from tinyvit.nn.checkpoints.pickles.names import DangerousNameError, check_pickled_name
from tinyvit.nn.checkpoints.pickles.records import (
    Pickle,
    PickledName,
    PickledObject,
    PickleRecordError,
    StoredStorage,
    UnorderedList,
)

_MAX_OPERATIONS = 4_000_000
"""A longer pickle is refused. The largest training checkpoints observed have 200,000 operations,
and a list of a million labels has 2 million. Four million take ten seconds."""

_MAX_INTEGER_BITS = 2048
"""A larger integer is refused, because computing with it can take long."""

_MAX_OFFSET = 2**40
"""Offsets of parts of storages, in elements, are smaller."""

_MAX_COPIED_BYTES = 512 * 2**20
"""A pickle whose operations copy more than this is refused. Texts are counted in characters,
containers in bytes of memory. Without this limit, a small file could fill the memory: an operation
of a few bytes can copy a large value, and can join a text with itself, which doubles it each time.
"""


class _Mark:
    """Marks where the arguments of an operation begin; the class itself is put on the stack."""


def read_pickle(file: BinaryIO, max_operations: int = _MAX_OPERATIONS) -> Pickle:
    """Read one pickle from the current position of a file.

    Args:
        file: A binary file. Afterwards, its position is after the pickle.
        max_operations: A pickle of more operations is refused.

    Returns:
        The content.

    Raises:
        PickleRecordError: The pickle is damaged, too large, or cannot be represented by records.
        DangerousNameError: The pickle names a function that could run code.
    """
    machine = _Machine()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if count > max_operations:
                raise PickleRecordError("it is too long")
            machine.run(operation.name, argument)
        return Pickle(machine.pop(), tuple(machine.storages))
    except (PickleRecordError, DangerousNameError):
        raise
    # genops raises ValueError or struct.error for damaged data. The other errors come from
    # operations whose arguments have another type or number than expected.
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error) as error:
        raise PickleRecordError(f"it is damaged ({error})") from error
    except (OverflowError, MemoryError, EOFError, RecursionError) as error:
        raise PickleRecordError(f"it is damaged ({type(error).__name__})") from error


class _Machine:
    """The stack machine that runs a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: list[StoredStorage] = []
        self.copied_bytes = 0

    def run(self, name: str, argument: Any) -> None:
        """Run one operation, by its name in `pickletools`."""
        if name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > _MAX_INTEGER_BITS:
                raise PickleRecordError("it contains a very large integer")
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        elif name not in _IGNORED:
            raise PickleRecordError(f"it contains the operation {name}")

    def pop(self) -> Any:
        """Remove and return the value on top of the stack."""
        value = self.stack.pop()
        if value is _Mark:
            raise PickleRecordError("it is damaged (a mark instead of a value)")
        return value

    def pop_to_mark(self) -> list[Any]:
        """Remove the values down to the last mark and return them."""
        values: list[Any] = []
        while (value := self.stack.pop()) is not _Mark:
            values.append(value)
        return values[::-1]

    def discard_to_mark(self) -> None:
        """Remove the values down to the last mark."""
        self.pop_to_mark()

    def pop_many(self, count: int) -> list[Any]:
        """Remove several values from the stack and return them, the lowest first."""
        return [self.pop() for _ in range(count)][::-1]

    def add_name(self, name: str) -> None:
        """Put a class or function on the stack.

        Args:
            name: Its module and its name, separated by a space, such as "torch FloatStorage".
        """
        self.stack.append(PickledName(check_pickled_name(name)))

    def add_stack_name(self) -> None:
        """Replace a module and a name on the stack by the class or function of that name."""
        module, name = self.pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleRecordError("it names a class or function by something that is not a text")
        self.count_copy(len(module) + len(name))
        self.add_name(f"{module} {name}")

    def count_copy(self, size_bytes: int) -> None:
        """Count a copy; raise PickleRecordError if all copies so far are too large together.

        Args:
            size_bytes: Size of the copy, in characters for a text (see `_MAX_COPIED_BYTES`).
        """
        self.copied_bytes += size_bytes
        if self.copied_bytes > _MAX_COPIED_BYTES:
            raise PickleRecordError("its operations copy too much")

    def call_top(self) -> None:
        """Replace a function and its arguments, a tuple on top, by the result of the call."""
        args = self.pop()
        self.add_call(args, self.pop())

    def create_with_keywords(self) -> None:
        """Replace a class, its arguments and its keyword arguments by an object of the class.

        The keyword arguments, a dict on top of the stack, are dropped.
        """
        self.pop()
        self.call_top()

    def add_call(self, args: tuple[Any, ...], function: Any) -> None:
        """Put the result of a call, or the object that a class creates, on the stack.

        Args:
            args: The arguments; anything but a tuple raises PickleRecordError.
            function: The record of the function or class.
        """
        if not isinstance(args, tuple):
            raise PickleRecordError("it calls a function with something that is not a tuple")
        if isinstance(function, PickledName):
            self.count_copy(measure_copy(function.name, args))
            self.stack.append(record_call(function.name, args))
        elif isinstance(function, PickledObject):
            self.stack.append(PickledObject(function.name, args))
        else:
            raise PickleRecordError("it calls something that is not a function")

    def set_state(self, state: Any) -> None:
        """Set the attributes of the object on top of the stack."""
        target = self.stack[-1]
        if isinstance(target, PickledObject):
            target.state = state
        # Attributes of other objects, such as `_metadata` of a state dict, are not needed.

    def set_items(self, values: list[Any]) -> None:
        """Set items of the dict on top of the stack, from alternating keys and values."""
        target = self.stack[-1]
        items = target.items if isinstance(target, PickledObject) else target
        if type(items) is not dict:
            raise PickleRecordError("it sets items of something that is not a dict")
        items.update(make_dict(values))

    def extend(self, values: list[Any]) -> None:
        """Append values to the list on top of the stack."""
        target = self.stack[-1]
        entries = target.entries if isinstance(target, PickledObject) else target
        if type(entries) not in (list, UnorderedList):
            raise PickleRecordError("it appends to something that is not a list")
        entries.extend(values)

    def add_instance(self, values: list[Any]) -> None:
        """Put an object on the stack; `values` are its class and, after that, its arguments."""
        self.add_call(tuple(values[1:]), values[0])

    def add_instance_by_name(self, name: str) -> None:
        """Put an object on the stack, from the name of its class and the arguments on the stack."""
        args = self.pop_to_mark()
        self.add_name(name)
        self.add_instance([self.pop(), *args])


def _load_persistent(machine: _Machine, argument: Any) -> None:
    """Replace a persistent id, with which torch refers to data outside of the pickle.

    The id of a storage, ("storage", type, key, device, number of elements), becomes a record of the
    storage. The id of a class of old files, ("module", class, ...), becomes the class.
    """
    identifier = machine.pop()
    if not isinstance(identifier, tuple) or len(identifier) < 2:
        raise PickleRecordError("it refers to something outside that is not a storage")
    kind = identifier[0].decode() if isinstance(identifier[0], bytes) else identifier[0]
    if kind == "module":  # followed by the class and its source code
        machine.stack.append(identifier[1])
        return
    if kind != "storage" or not isinstance(identifier[1], PickledName):
        raise PickleRecordError("it refers to something outside that is not a storage")
    # str() of a nested container, which a damaged pickle may have here, could be of any length.
    if not isinstance(identifier[2], (str, int, bytes)):
        raise PickleRecordError("it has a storage whose key is not a text")
    # In old versions of torch, a sixth entry describes a storage that is a part of another one: its
    # key, offset and size.
    view = identifier[5] if len(identifier) > 5 else None
    offset = view[1] if view else 0
    # With a negative offset, a tensor would begin before its storage.
    if type(offset) is not int or not 0 <= offset < _MAX_OFFSET:
        raise PickleRecordError("it has a part of a storage with an impossible offset")
    storage = StoredStorage(identifier[1].name, str(identifier[2]), offset)
    machine.storages.append(storage)
    machine.stack.append(storage)


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT"),
}
"""Operations that put their argument on the stack."""

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": UnorderedList,
    "MARK": lambda: _Mark,
}
"""Operations without arguments that put a value on the stack."""

_IGNORED = {"PROTO", "STOP", "FRAME", "READONLY_BUFFER"}
"""Operations that do not change the stack."""

_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.pop_to_mark()),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "FROZENSET": lambda m, _: m.stack.append(UnorderedList(m.pop_to_mark())),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.pop_many(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.pop_many(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.pop_many(3))),
    "DICT": lambda m, _: m.stack.append(make_dict(m.pop_to_mark())),
    "SETITEM": lambda m, _: m.set_items(m.pop_many(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "POP": lambda m, _: m.stack.__delitem__(-1),
    "POP_MARK": lambda m, _: m.discard_to_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "GET": lambda m, index: m.stack.append(m.memo[index]),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "PUT": lambda m, index: m.memo.__setitem__(index, m.stack[-1]),
    "BINPUT": lambda m, index: m.memo.__setitem__(index, m.stack[-1]),
    "LONG_BINPUT": lambda m, index: m.memo.__setitem__(index, m.stack[-1]),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "GLOBAL": lambda m, name: m.add_name(name),
    "STACK_GLOBAL": lambda m, _: m.add_stack_name(),
    "REDUCE": lambda m, _: m.call_top(),
    "NEWOBJ": lambda m, _: m.call_top(),
    "NEWOBJ_EX": lambda m, _: m.create_with_keywords(),
    "OBJ": lambda m, _: m.add_instance(m.pop_to_mark()),
    "INST": lambda m, name: m.add_instance_by_name(name),
    "BUILD": lambda m, _: m.set_state(m.pop()),
    "BINPERSID": _load_persistent,
}
"""Maps all other operations to functions of the machine `m` and of the operation's argument."""
