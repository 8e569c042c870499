"""Mutations of valid files that know nothing of the format, and some that know its container."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.crafting import change_field
from tests.hostile.hostile_files import HostileFile

Mutation = Callable[[bytes, random.Random], bytes]

_EXTREME_INTEGERS = (0, 1, -1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_EXTREME_INTEGERS += (2**40, 2**62, 2**63 - 1, 2**64 - 1, -(2**31), -(2**63))
_EXTREME_NUMBERS = (b"0", b"-1", b"1e308", b"1e999", b"-1e999", b"NaN", b"9" * 400, b"1e-400")
_EXTREME_NUMBERS += (b"Infinity", b"-0", b"0x10", b"1_000", b"4294967296", b"9223372036854775808")
_MAX_CHANGED_BYTES = 64
_MAX_REPEATED_BYTES = 2**20


def _choose_range(data: bytes, generator: random.Random) -> tuple[int, int]:
    """Choose the start and the end of a range, short or long."""
    start = generator.randrange(len(data) + 1)
    length = generator.choice((1, generator.randint(1, 64), generator.randint(1, len(data) + 1)))
    return start, min(start + length, len(data))


def truncate(data: bytes, generator: random.Random) -> bytes:
    """Cut off the end: a few bytes, or any number."""
    count = generator.choice((1, generator.randint(1, 64), generator.randint(1, max(len(data), 1))))
    return data[: max(len(data) - count, 0)]


def flip_bits(data: bytes, generator: random.Random) -> bytes:
    """Flip one to many bits."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 2, 16, _MAX_CHANGED_BYTES))):
        changed[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def overwrite_integer(data: bytes, generator: random.Random) -> bytes:
    """Overwrite 1, 2, 4 or 8 bytes with an extreme integer, often near the start or the end."""
    width = generator.choice((1, 2, 4, 8))
    value = generator.choice(_EXTREME_INTEGERS) % 2 ** (8 * width)
    last = max(len(data) - width, 0)
    near = min(last, 512)
    position = generator.choice(
        (generator.randint(0, last), generator.randint(0, near), last - generator.randint(0, near))
    )
    order = generator.choice(("little", "big"))
    return data[:position] + value.to_bytes(width, order) + data[position + width :]


def remove_range(data: bytes, generator: random.Random) -> bytes:
    """Remove a range."""
    start, end = _choose_range(data, generator)
    return data[:start] + data[end:]


def repeat_range(data: bytes, generator: random.Random) -> bytes:
    """Insert a range again, once or very often."""
    start, end = _choose_range(data, generator)
    piece = data[start:end] or b"\0"
    count = min(generator.choice((1, 2, 1000, 100_000)), _MAX_REPEATED_BYTES // len(piece) + 1)
    return data[:end] + piece * count + data[end:]


def move_range(data: bytes, generator: random.Random) -> bytes:
    """Copy one range over another."""
    start, end = _choose_range(data, generator)
    target = generator.randrange(len(data) + 1)
    return data[:target] + data[start:end] + data[target + end - start :]


def fill_range(data: bytes, generator: random.Random) -> bytes:
    """Fill a range with one byte, or with random bytes."""
    start, end = _choose_range(data, generator)
    length = end - start
    filling = generator.choice(
        (bytes(length), b"\xff" * length, b"(" * length, b" " * length, generator.randbytes(length))
    )
    return data[:start] + filling + data[end:]


def append_bytes(data: bytes, generator: random.Random) -> bytes:
    """Append zeros, random bytes, or the data itself."""
    count = generator.choice((1, 1024, 100_000))
    return data + generator.choice((bytes(count), generator.randbytes(count), data))


def change_number(data: bytes, generator: random.Random) -> bytes:
    """Replace a number that is written in digits by an extreme one."""
    places = list(re.finditer(rb"-?\d[\d.]{0,40}", data))
    if not places:
        return overwrite_integer(data, generator)
    place = generator.choice(places)
    return data[: place.start()] + generator.choice(_EXTREME_NUMBERS) + data[place.end() :]


def insert_text(data: bytes, generator: random.Random) -> bytes:
    """Insert text that acts on terminals, brackets, quotes, or bytes that are not UTF-8."""
    texts = (HOSTILE_TEXT.encode("utf-8", "surrogatepass"), b"[" * 10_000, b'"', b"'", b"\n")
    texts += (
        b"{" * 100,
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\0",
        b",",
        b"\r",
        b"<!-- -->" * 50,
        b"&a;",
    )
    position = generator.randrange(len(data) + 1)
    return data[:position] + generator.choice(texts) + data[position:]


def change_encoding(data: bytes, generator: random.Random) -> bytes:
    """Encode text in another way."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return flip_bits(data, generator)
    encoding = generator.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7", "utf-16-be"))
    return text.encode(encoding)


BYTE_MUTATIONS: tuple[Mutation, ...] = (
    truncate,
    flip_bits,
    overwrite_integer,
    remove_range,
    repeat_range,
    move_range,
    fill_range,
    append_bytes,
    change_number,
    insert_text,
    change_encoding,
)


def mutate_bytes(data: bytes, generator: random.Random) -> bytes:
    """Apply one to three random mutations; the result is never the data itself."""
    changed = data
    while changed == data:
        for _ in range(generator.choice((1, 1, 1, 2, 3))):
            changed = generator.choice(BYTE_MUTATIONS)(changed or b"\0", generator)
    return changed


def mutate_json(data: bytes, generator: random.Random) -> bytes:
    """Change a random field of a JSON text, or of a line of JSON; see `crafting.change_field`."""
    try:
        document = json.loads(data)
    except ValueError:
        lines = data.splitlines(keepends=True)
        number = generator.randrange(len(lines))
        if len(lines) == 1 or not lines[number].startswith((b"{", b"[")):
            return mutate_bytes(data, generator)
        lines[number] = mutate_json(lines[number].strip(), generator) + b"\n"
        return b"".join(lines)
    _description, changed = change_field(document, generator)
    return json.dumps(changed).encode()


def mutate_zip(data: bytes, generator: random.Random) -> bytes:
    """Mutate a member of a ZIP archive, its name, or its place, with correct checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    number = generator.randrange(len(members))
    name, content = members[number]
    action = generator.choice(("change", "change", "change", "change", "remove", "twice", "rename"))
    if action == "change":
        members[number] = (name, mutate_bytes(content, generator))
    elif action == "remove":
        del members[number]
    elif action == "twice":
        members.append((name, mutate_bytes(content, generator)))
    else:
        names = ("../../CANARY", "/CANARY", "a" * 60_000, "", "a/../b", name.upper(), "\u202ex")
        members[number] = (generator.choice(names), content)
    output = io.BytesIO()
    method = generator.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(output, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return output.getvalue()


def _is_json(data: bytes) -> bool:
    """Return whether data is one JSON value; lines of JSON are not."""
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _mutate(data: bytes, generator: random.Random) -> bytes:
    """Mutate data, sometimes within its container; the result is never the data itself."""
    mutation = mutate_bytes
    if data.startswith(b"PK\3\4") and generator.random() < 0.6:
        mutation = mutate_zip
    elif data.startswith((b"{", b"[")) and _is_json(data) and generator.random() < 0.6:
        mutation = mutate_json
    changed = data
    while changed == data:
        changed = mutation(data, generator)
    return changed


def list_files(sample: Path) -> list[Path]:
    """List the files of a sample, which is a file or a folder.

    A file called "a.xml" includes "a.bin" and all others with the same stem beside it.
    """
    if sample.is_dir():
        return sorted(path for path in sample.rglob("*") if path.is_file())
    return sorted(path for path in sample.parent.iterdir() if path.stem == sample.stem)


def make_mutation(sample: Path, seed: str, mutate_format: Mutation | None = None) -> HostileFile:
    """Make a mutation of a sample.

    Args:
        sample: A valid file or folder; see `list_files` for the files beside it.
        seed: Determines the mutation.
        mutate_format: Changes a file in a way that knows its format, in half of all mutations.
    """
    files = list_files(sample)
    base = sample if sample.is_dir() else sample.parent

    def write(folder: Path) -> Path:
        generator = random.Random(seed)
        victim = generator.choice(files)
        is_informed = mutate_format is not None and generator.random() < 0.5
        mutation = mutate_format if mutate_format and is_informed else _mutate
        changed = mutation(victim.read_bytes(), generator)
        root = folder / sample.name if sample.is_dir() else folder
        for file in files:
            target = root / file.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(changed if file == victim else file.read_bytes())
        return folder / sample.name

    return HostileFile(f"a mutation of {sample.name} with the seed {seed!r}", write)
