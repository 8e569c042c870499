"""Errors for files that are no PyTorch checkpoints, which name the format and a remedy."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from tinyvit.errors import CheckpointError

_GIVE_SOURCE = "give the PyTorch checkpoint from which it was made (.pth or .safetensors)"
_DOWNLOAD_FILE = "download the file itself (the 'resolve' or 'raw' link), then try again"
_UNPACK = "unpack it and give the checkpoint in it"
_SAVE_IN_PYTHON = "load it in Python and save it with torch.save(model.state_dict(), path)"

_TEXT_STARTS = (
    (rb"(?:<\?xml[^>]*>\s*)?<net\s", "an OpenVINO model, not a checkpoint", _GIVE_SOURCE),
    (rb"<!doctype|<html|<\?xml", "a web page, not a checkpoint", _DOWNLOAD_FILE),
    (
        rb"version https://git-lfs",
        "a git-lfs pointer, not the checkpoint",
        "run git lfs pull, or download the file itself",
    ),
)
"""Each row: a pattern of the lower-case beginning of a text file, what the file is, the remedy."""

_MAGIC_BYTES = (
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (of Keras or TensorFlow)", _SAVE_IN_PYTHON),
    (0, b"GGUF", "a GGUF file", _GIVE_SOURCE),
    (4, b"TFL3", "a LiteRT (TensorFlow Lite) model", _GIVE_SOURCE),
    (4, b"ORTM", "an ONNX Runtime model", _GIVE_SOURCE),
    (4, b"ET1", "an ExecuTorch program", _GIVE_SOURCE),
    (0, b"\x93NUMPY", "a NumPy array", _SAVE_IN_PYTHON),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"\xff\xd8\xff", "a JPEG image", "give --checkpoint a .pth or .safetensors file"),
    (0, b"\x89PNG", "a PNG image", "give --checkpoint a .pth or .safetensors file"),
)
"""Each row: position and value of bytes that identify a format, what the file is, the remedy."""

_SUFFIXES = {
    ".onnx": ("an ONNX model", _GIVE_SOURCE),
    ".engine": ("a TensorRT engine", _GIVE_SOURCE),
    ".plan": ("a TensorRT engine", _GIVE_SOURCE),
    ".tflite": ("a LiteRT (TensorFlow Lite) model", _GIVE_SOURCE),
    ".pb": ("a TensorFlow graph", _GIVE_SOURCE),
    ".msgpack": ("a checkpoint of Flax", "give a checkpoint of PyTorch"),
    ".mlmodel": ("a Core ML model", _GIVE_SOURCE),
    ".yaml": ("a text file", "give --checkpoint a .pth or .safetensors file"),
    ".yml": ("a text file", "give --checkpoint a .pth or .safetensors file"),
    ".json": ("a text file", "give --checkpoint the file with the weights, or its folder"),
}
"""Maps the suffix of a file whose content is not recognized to what the file is, and the remedy."""

_ONNX_STARTS = tuple(bytes((8, version, 0x12)) for version in range(3, 16))
"""The first bytes of ONNX models: the protobuf tag of field 1 (version of the format), its value
from 3 to 15, and the tag of field 2 (name of the producer)."""


def explain_start(start: bytes, path: Path) -> CheckpointError:
    """Explain a file that is neither in safetensors format nor a file of `torch.save`.

    Args:
        start: The first 512 bytes of the file.
        path: The file.

    Returns:
        The error, which names the format if it is known.
    """
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    for pattern, description, remedy in _TEXT_STARTS:
        if re.match(pattern, text):
            return CheckpointError(f"{path} is {description}", remedy)
    for position, magic, description, remedy in _MAGIC_BYTES:
        if start[position:].startswith(magic):
            return CheckpointError(f"{path} is {description}, not a checkpoint", remedy)
    if start.startswith(_ONNX_STARTS):
        return CheckpointError(f"{path} is an ONNX model, not a checkpoint", _GIVE_SOURCE)
    if path.suffix.lower() in _SUFFIXES:
        description, remedy = _SUFFIXES[path.suffix.lower()]
        return CheckpointError(f"{path} is {description}, not a checkpoint", remedy)
    if _is_text(start):
        return CheckpointError(
            f"{path} is a text file, not a checkpoint",
            "give a .safetensors or .pth checkpoint of TinyViT (--labels takes names of classes)",
        )
    return CheckpointError(
        f"{path} is neither a safetensors nor a torch file",
        "give a .safetensors or .pth checkpoint of TinyViT",
    )


def _is_text(start: bytes) -> bool:
    """Return whether the beginning of a file is text in UTF-8, of which the end may be cut off."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return bool(text) and all(character.isprintable() or character.isspace() for character in text)


def explain_zip(path: Path, names: set[str]) -> CheckpointError | None:
    """Explain a zip archive that is not a file of `torch.save`.

    Args:
        path: The archive.
        names: Names of its entries.

    Returns:
        The error; None if the archive is a file of `torch.save`.
    """
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        return CheckpointError(
            f"{path} is a TorchScript archive (of torch.jit.save), not a checkpoint",
            "save its weights: torch.save(torch.jit.load(path).state_dict(), 'weights.pth')",
        )
    if any(
        name.endswith(("serialized_exported_program.json", "models/model.json")) for name in names
    ):
        return CheckpointError(
            f"{path} is a program of torch.export.save, not a checkpoint",
            "save its weights: torch.save(torch.export.load(path).state_dict, 'weights.pth')",
        )
    pickles = [name for name in names if name.endswith("data.pkl") and name.count("/") <= 1]
    if len(pickles) == 1:
        return None
    if any(name.endswith(".npy") for name in names):
        return CheckpointError(
            f"{path} is a file of numpy.savez, not a checkpoint", _SAVE_IN_PYTHON
        )
    if any(name.endswith(".h5") for name in names):
        return CheckpointError(f"{path} is a Keras model, not a checkpoint", _SAVE_IN_PYTHON)
    shown = ", ".join(sorted(names)[:3])
    return CheckpointError(
        f"{path} is a zip archive without a checkpoint of torch.save (it contains {shown})", _UNPACK
    )


def explain_pickle(path: Path) -> CheckpointError:
    """Explain a pickle that is not a file of `torch.save`."""
    return CheckpointError(
        f"{path} is a plain pickle (of pickle.dump or joblib), not a file of torch.save",
        "load it in Python and save its weights with torch.save",
    )
