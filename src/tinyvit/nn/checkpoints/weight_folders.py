"""Finds the files with the weights in the folder of a checkpoint, and reads its config.json."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from tinyvit.checkpoint_paths import BEST_CHECKPOINT, CHECKPOINT_SUFFIXES
from tinyvit.errors import CheckpointError
from tinyvit.files.file_io import sha256
from tinyvit.labels.label_keys import MAP_KEYS, normalize_key
from tinyvit.nn.checkpoints.tensor_files.torch_files import MAX_BYTES
from tinyvit.serialization import read_json
from tinyvit.text.safe_text import quote_argument

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weight files in folders of Hugging Face's layout. The first that exists is read."""

_INDEX_FILES = tuple(f"{name}.index.json" for name in _WEIGHT_FILES)
"""Names of the files that list the parts of weights that are split into several files."""

_OTHER_FILES = ("optimizer", "scheduler", "rng_state", "training_args", "scaler", "random_states")
"""Beginnings of the names of files that trainers write beside the weights."""

_CONFIG_KEYS = (
    "architecture",
    "pretrained_cfg",
    "num_classes",
    "model_args",
    "problem_type",
    "class_names",
    "label_names",
    "classes",
    *MAP_KEYS,
)
"""A config.json with one of these keys describes a model of an image classifier."""

_MAX_CONFIG_BYTES = 16 * 2**20
"""A config.json that is larger is not read."""

_MAX_FILES = 1000
"""Largest number of files into which weights may be split."""


def find_weight_files(path: Path) -> tuple[Path, ...]:
    """Find the files that hold the weights.

    Args:
        path: A checkpoint file, or a folder of Hugging Face's layout, or a folder with a single
            checkpoint file.

    Returns:
        The files: `path` itself if it is not a folder; several only if the weights are split.

    Raises:
        CheckpointError: The folder has no weights, several checkpoints, or an invalid list of the
            files into which the weights are split.
    """
    if not path.is_dir():
        return (path,)
    path = _find_snapshot(path)
    for name, index_name in zip(_WEIGHT_FILES, _INDEX_FILES):
        if (path / name).is_file():
            return (path / name,)
        if (path / index_name).is_file():
            return _read_index(path / index_name)
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix in CHECKPOINT_SUFFIXES
        and file.is_file()
        and not file.name.startswith((".", *_OTHER_FILES))
    )
    if len(files) == 1:
        return (files[0],)
    if files:
        names = ", ".join(file.name for file in files[:6])
        best = next((file for file in files if file.name == BEST_CHECKPOINT), None)
        raise CheckpointError(
            f"the folder {path} contains {len(files)} checkpoints ({names})",
            "give one of these files" if best is None else f"give {best}, the result of a training",
        )
    raise _explain_folder(path)


def read_config(path: Path) -> dict[str, Any]:
    """Read the config.json in a folder, or beside a file, if it describes a model.

    Args:
        path: A checkpoint file or a folder.

    Returns:
        The content; {} if there is no such file, or if it is beside a checkpoint file and cannot be
        read.

    Raises:
        CheckpointError: `path` is a folder whose config.json cannot be read or is not valid.
    """
    file = find_settings_folder(path) / "config.json"
    try:
        config = read_json(file, _MAX_CONFIG_BYTES) if file.is_file() else {}
    except (OSError, ValueError) as error:
        # A file beside a checkpoint file may belong to something else.
        if not path.is_dir():
            return {}
        raise CheckpointError(
            f"{file} cannot be read ({error})", "correct the file, or remove it"
        ) from error
    is_model = isinstance(config, dict) and any(
        normalize_key(key) in _CONFIG_KEYS for key in config
    )
    return config if is_model else {}


def find_settings_folder(path: Path) -> Path:
    """Return the folder in which the files of settings of a checkpoint are.

    Args:
        path: A checkpoint file or a folder. In a folder of Hugging Face's cache, the files are in
            its only snapshot.
    """
    return _find_snapshot(path) if path.is_dir() else path.parent


def hash_weight_files(path: Path) -> str:
    """Compute the SHA-256 of a checkpoint.

    Args:
        path: A checkpoint file or a folder.

    Returns:
        The hex digest of the file with the weights. If the weights are split into several files, it
        is the digest of their hex digests, joined in the order of the file names.
    """
    digests = [sha256(file) for file in find_weight_files(path)]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _find_snapshot(path: Path) -> Path:
    """Return the only snapshot in a folder of Hugging Face's cache; otherwise the folder itself."""
    if not (path / "snapshots").is_dir():
        return path
    snapshots = [folder for folder in (path / "snapshots").iterdir() if folder.is_dir()]
    return snapshots[0] if len(snapshots) == 1 else path


def _read_index(index: Path) -> tuple[Path, ...]:
    """Return the files that Hugging Face's list of weight files names, sorted by name."""
    try:
        content = read_json(index)
        names = sorted(set(content["weight_map"].values()))
        if not all(isinstance(name, str) for name in names):
            raise TypeError("the name of a file is not a text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is not a valid list of weight files", "download it again"
        ) from error
    if len(names) > _MAX_FILES:
        raise CheckpointError(
            f"{index} names {len(names)} files, and at most {_MAX_FILES} are read",
            "do not trust this file",
        )
    for name in names:
        if name != Path(name).name:
            raise CheckpointError(
                f"{index} names the file {name[:100]}, which is not in its folder",
                "do not trust this file",
            )
        # Unlike the method of Path, this function does not raise an error for a long name.
        if not os.path.isfile(index.parent / name):
            raise CheckpointError(
                f"{name}, which {index.name} names, is missing in {index.parent}",
                "download all files of the model",
            )
    size_bytes = sum((index.parent / name).stat().st_size for name in names)
    if size_bytes > MAX_BYTES:
        raise CheckpointError(
            f"the files that {index} names have {size_bytes / 2**30:.1f} GiB, more than any TinyViT"
            " checkpoint",
            "give the checkpoint of a TinyViT",
        )
    return tuple(index.parent / name for name in names)


def _explain_folder(path: Path) -> CheckpointError:
    """Explain a folder without weights."""
    if any(path.glob("*.distcp")):
        return CheckpointError(
            f"the folder {path} is a distributed checkpoint (.distcp)",
            "convert it, if you trust it, because PyTorch may execute code in it: python -m"
            f" torch.distributed.checkpoint.format_utils dcp_to_torch {quote_argument(path)}"
            " weights.pth",
        )
    if (path / "zero_to_fp32.py").is_file():
        return CheckpointError(
            f"the folder {path} is a checkpoint of DeepSpeed",
            "convert it, if you trust it, because DeepSpeed may execute code in it: python -m"
            f" deepspeed.utils.zero_to_fp32 {quote_argument(path)} weights; then give the file or"
            " folder that it writes",
        )
    if (path / "saved_model.pb").is_file():
        return CheckpointError(
            f"the folder {path} is a SavedModel of TensorFlow", "give a checkpoint of PyTorch"
        )
    if (path / "adapter_config.json").is_file():
        return CheckpointError(
            f"the folder {path} contains an adapter (LoRA) without the network",
            "merge it (model = model.merge_and_unload() in peft) and save model.state_dict()",
        )
    if path.suffix == ".mlpackage":
        return CheckpointError(
            f"the folder {path} is a Core ML model",
            "give the PyTorch checkpoint from which it was made (.pth or .safetensors)",
        )
    subfolders = sorted(folder.name for folder in path.glob("checkpoint-*") if folder.is_dir())
    if subfolders:
        return CheckpointError(
            f"the folder {path} contains the checkpoints of a training ({', '.join(subfolders[:6])}"
            f"{', ...' if len(subfolders) > 6 else ''})",
            f"give one of these folders, such as {path / subfolders[0]}",
        )
    return CheckpointError(
        f"the folder {path} cannot be read as a checkpoint: it has no {_WEIGHT_FILES[0]},"
        f" {_WEIGHT_FILES[1]} or other file of weights",
        "give the file with the weights, or a folder with a config.json and a model.safetensors",
    )
