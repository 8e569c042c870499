"""Mutations of image files that know the parts of the formats."""

from __future__ import annotations

import random
import struct
import zlib

from tests.hostile.mutations import mutate_bytes

_EXTREME_LENGTHS = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_PNG_START = b"\x89PNG\r\n\x1a\n"


def mutate_image(data: bytes, generator: random.Random) -> bytes:
    """Change a part of an image file, with right lengths and checksums around it."""
    if data.startswith(_PNG_START):
        return _mutate_png(data, generator)
    if data.startswith(b"\xff\xd8"):
        return _mutate_jpeg(data, generator)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _mutate_tiff(data, generator)
    if data.startswith(b"RIFF"):
        return _mutate_riff(data, generator)
    if data[4:8] in (b"ftyp", b"jP  "):
        return _mutate_boxes(data, generator)
    return _change_header(data, generator)


def _change_parts(parts: list[bytes], generator: random.Random) -> list[bytes]:
    """Change, remove, repeat or move one part, or very often repeat it."""
    number = generator.randrange(len(parts))
    action = generator.choice(("change", "change", "change", "remove", "repeat", "often", "move"))
    part = parts[number]
    if action == "change":
        parts[number] = mutate_bytes(part or b"\0", generator)
    elif action == "remove":
        del parts[number]
    elif action in ("repeat", "often"):
        count = 1 if action == "repeat" else min(1000, 2**20 // (len(part) + 1) + 1)
        parts[number:number] = [part] * count
    else:
        parts.insert(generator.randrange(len(parts)), parts.pop(number))
    return parts


def _mutate_png(data: bytes, generator: random.Random) -> bytes:
    chunks, place = [], len(_PNG_START)
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append(data[place + 4 : place + 8 + length])
        place += 12 + length
    output = _PNG_START
    for chunk in _change_parts(chunks, generator):
        checksum = struct.pack(">I", zlib.crc32(chunk))
        output += struct.pack(">I", max(len(chunk) - 4, 0)) + chunk + checksum
    return output


def _mutate_jpeg(data: bytes, generator: random.Random) -> bytes:
    segments, place = [], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        segments.append(data[place + 1 : place + 2] + data[place + 4 : place + 2 + length])
        place += 2 + length
    output = data[:2]
    for segment in _change_parts(segments or [b"\xe0"], generator):
        length = min(len(segment) + 1, 2**16 - 1)
        output += b"\xff" + segment[:1] + length.to_bytes(2, "big") + segment[1 : length - 1]
    return output + data[place:]


def _mutate_tiff(data: bytes, generator: random.Random) -> bytes:
    """Change a field of an entry in the first directory, or the place of the next one."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    place = start + 2 + 12 * generator.randrange(count)
    changed = bytearray(data)
    field, extreme = generator.choice(("tag", "type", "count", "value", "next")), 0
    if field in ("tag", "type"):
        numbers = (0, 1, 3, 4, 5, 12, 16, 17, 258, 262, 277, 322, 65535)
        offset = place + (0 if field == "tag" else 2)
        struct.pack_into(f"{order}H", changed, offset, generator.choice(numbers))
    else:
        extreme = generator.choice((*_EXTREME_LENGTHS, start, len(data) - 1))
        offsets = {"count": place + 4, "value": place + 8, "next": start + 2 + 12 * count}
        struct.pack_into(f"{order}I", changed, offsets[field], extreme)
    return bytes(changed)


def _mutate_riff(data: bytes, generator: random.Random) -> bytes:
    chunks, place = [], 12
    while place + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, place + 4)
        chunks.append(data[place : place + 4] + data[place + 8 : place + 8 + length])
        place += 8 + length + length % 2
    content = b"WEBP"
    for chunk in _change_parts(chunks, generator):
        body = chunk[4:]
        content += chunk[:4] + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _mutate_boxes(data: bytes, generator: random.Random) -> bytes:
    """Change a box at the top level of a JPEG 2000 or AVIF file, or one inside it."""
    boxes, place = [], 0
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big") or len(data) - place
        boxes.append(data[place + 4 : place + max(length, 8)])
        place += max(length, 8)
    number = generator.randrange(len(boxes))
    box = boxes[number]
    if generator.random() < 0.5 and len(box) > 24:
        # A number inside the box, for example the size of an image or of a tile.
        offset = generator.randrange(4, min(len(box) - 4, 400))
        number_bytes = struct.pack(">I", generator.choice(_EXTREME_LENGTHS))
        boxes[number] = box[:offset] + number_bytes + box[offset + 4 :]
    else:
        boxes = _change_parts(boxes, generator)
    return b"".join((len(box) + 4).to_bytes(4, "big") + box for box in boxes)


def _change_header(data: bytes, generator: random.Random) -> bytes:
    """Change a number near the start, in which formats state sizes."""
    width = generator.choice((1, 2, 4))
    number = generator.choice(_EXTREME_LENGTHS) % 2 ** (8 * width)
    place = generator.randrange(2, 64)
    return data[:place] + number.to_bytes(width, "little") + data[place + width :]
