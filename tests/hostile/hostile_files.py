"""What a campaign consists of: loaders, and hostile files for each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class HostileFile:
    """A file, or a folder, that its loader must survive.

    Attributes:
        description: What is wrong with it, for example "a header that states 2^40 bytes".
        write: Writes it into an existing, empty folder, and returns the path to load. A folder
            must not contain anything else.
    """

    description: str
    write: Callable[[Path], Path]


def make_file(name: str, description: str, data: bytes) -> HostileFile:
    """Make a hostile file from its name and its bytes."""
    return make_lazy_file(name, description, lambda: data)


def make_lazy_file(name: str, description: str, make: Callable[[], bytes]) -> HostileFile:
    """Make a hostile file whose bytes are made when it is written.

    Args:
        name: Name of the file.
        description: What is wrong with it.
        make: Makes the bytes.
    """

    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(make())
        return path

    return HostileFile(description, write)


def no_crafted_files(generator: random.Random) -> Iterator[HostileFile]:
    """Yield nothing: the campaign tries only mutations of the samples."""
    yield from ()


@dataclass(frozen=True)
class Loader:
    """A function of the product that reads files of strangers.

    Attributes:
        name: What it reads, for the table, for example "ONNX: verify".
        load: Loads a path; a function of a module, because other processes import it. It returns if
            it accepts the file, and raises a `TinyViTError` if it refuses it. It may write into the
            current folder, which is empty.
        make_samples: Makes valid files, or folders, of one to many kinds in an empty folder, and
            returns their paths. The campaign mutates them.
        craft: Yields files that are made on purpose, always the same ones for the same generator.
        mutate: Changes the content of a file of a sample in a way that knows its format. It makes
            half of the mutations. None if there is no such function.
        mutate_sample: Makes a mutation of a sample from a seed, for formats whose files belong
            together; it replaces `mutate` and all other mutations. None if there is none.
        must_refuse: Whether a mutated file must be refused, wherever the mutation is.
        memory_bytes: Largest growth of the resident memory. It must not exceed the limits that
            docs/reference/limits.md states for the loader.
        cpu_seconds: Largest CPU time.
    """

    name: str
    load: Callable[[Path], None]
    make_samples: Callable[[Path], Sequence[Path]]
    craft: Callable[[random.Random], Iterator[HostileFile]] = no_crafted_files
    mutate: Callable[[bytes, random.Random], bytes] | None = None
    mutate_sample: Callable[[Path, str], HostileFile] | None = None
    must_refuse: bool = False
    memory_bytes: int = GIB
    cpu_seconds: int = 60
