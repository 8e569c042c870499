"""The errors that Pillow raises for damaged files."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    MemoryError,
    Warning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""All types of errors that Pillow's decoders were observed to raise for damaged files. `Warning` is
included because a program can turn warnings into errors."""
