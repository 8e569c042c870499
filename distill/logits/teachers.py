"""Teachers: by name, by file or by a function -> `Teacher`, which takes pixels and answers probabilities of its classes.

tiny_vit_21m.safetensors     a TinyViT checkpoint, run in torch
tinyvit_21m, demo            a released one, by its name
tinyvit_21m.onnx             an exported file, run by its engine
timm:convnext_base.fb_in22k  a model of timm's with its published weights, where timm is installed
teacher.py:lite0             a function without arguments that returns a torch module (also package.module:lite0): it is executed
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tinyvit.distill.logits.store import TeacherInfo
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.errors import RequestError
from tinyvit.files import sha256
from tinyvit.labels import Label, imagenet_labels
from tinyvit.nn.checkpoint import CHECKPOINT_SUFFIXES, Checkpoint, load_checkpoint
from tinyvit.nn.hub import load_released
from tinyvit.nn.timm_models import import_timm
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.runtimes import open_artifact, open_runtime
from tinyvit.runtimes.base import run_in_batches
from tinyvit.serialization import matches_type
from tinyvit.variants import RELEASED_NAMES

SIZE = 224
"""Of a module that does not say at which it was trained."""
TIMM = "timm:"
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Teacher:
    """name, sha256: what it is. classes, labels: of its answers. preprocess: its mean and std, and the size it wants; only those are
    used. logits: float32 (B, 3, S, S), normalized -> (B, classes). any_size: whether it runs at other sizes than preprocess.size."""

    name: str
    sha256: str
    classes: int
    labels: tuple[Label, ...] | None
    preprocess: Preprocess
    logits: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
    any_size: bool

    @property
    def taught(self) -> TeacherInfo:
        """For a store's header."""
        return TeacherInfo(self.name, self.sha256)

    def probabilities(self, pixels: Pixels) -> npt.NDArray[np.float64]:
        """uint8 (B, S, S, 3) -> (B, classes)."""
        logits = self.logits(self.preprocess.normalize(pixels)).astype(np.float64)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))


def open_teachers(
    given: Sequence[str], size: int | None, device: ComputeDevice
) -> tuple[Teacher, ...]:
    """For views of `size` pixels, their own where None. Raises RequestError where their classes or sizes are not the same."""
    found = tuple(_open(name, size, device) for name in given)
    first = found[0]
    for other in found[1:]:
        if (other.classes, other.labels) != (first.classes, first.labels):
            raise RequestError(
                f"{first.name} and {other.name} have different classes ({first.classes} and {other.classes})",
                "average teachers of the same classes in the same order",
            )
    wanted = size or first.preprocess.size
    for each in found:
        if each.preprocess.size != wanted and not each.any_size:
            raise RequestError(
                f"{each.name} runs at {each.preprocess.size} pixels, not {wanted}",
                f"save-logits --img-size {each.preprocess.size}",
            )
    return found


def average_probabilities(teachers: Sequence[Teacher], pixels: Pixels) -> npt.NDArray[np.float64]:
    """The mean of their probabilities, (B, classes)."""
    return np.asarray(np.mean([teacher.probabilities(pixels) for teacher in teachers], axis=0))


def _open(given: str, size: int | None, device: ComputeDevice) -> Teacher:
    if given.startswith(TIMM):
        return _timm(given, device)
    if (path := Path(given)).suffix in CHECKPOINT_SUFFIXES:
        return _checkpoint(load_checkpoint(path), path.name, size, device)
    if given in RELEASED_NAMES and not path.is_file():
        return _checkpoint(load_released(given), given, size, device)
    if path.exists():
        return _artifact(path)
    if ":" in given:
        return _function(given, device)
    raise RequestError(
        f"no teacher is called {given!r}",
        "give a checkpoint, an exported file, a released model's name, timm:NAME, or FILE.py:FUNCTION that returns a torch module",
    )


def _checkpoint(source: Checkpoint, name: str, size: int | None, device: ComputeDevice) -> Teacher:
    source = source.at_size(size or source.img_size)
    return _module(
        source.build(),
        name,
        source.sha256,
        source.labels,
        source.preprocess,
        device,
        any_size=False,
    )


def _artifact(path: Path) -> Teacher:
    artifact = open_artifact(path)
    manifest = artifact.manifest
    if manifest is None or manifest.stage != "host":
        raise RequestError(
            f"{path.name} does not take normalized images",
            "give a file that tinyvit-export made without --preprocess",
        )
    runtime = open_runtime(artifact)

    def logits(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        ordered = (
            images
            if manifest.input.layout == "NCHW"
            else np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        )
        return run_in_batches(runtime, ordered, manifest.input.shape[0])

    return Teacher(
        path.name,
        sha256(path),
        len(manifest.labels),
        manifest.labels,
        manifest.preprocess,
        logits,
        any_size=False,
    )


def _timm(given: str, device: ComputeDevice) -> Teacher:
    timm = import_timm()
    name = given.removeprefix(TIMM)
    try:
        module = timm.create_model(name, pretrained=True).eval()
    except Exception as error:  # of the hub, of urllib, or timm's own: none has a base
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise RequestError(
            f"timm cannot make {name} ({reason})",
            "see timm.list_pretrained(), and whether the hub can be reached",
        ) from error
    config = timm.data.resolve_model_data_config(module)
    preprocess = replace(
        timm_preprocess(config["input_size"][-1]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    return _module(module, given, _weights_hash(module), None, preprocess, device, any_size=True)


def _function(given: str, device: ComputeDevice) -> Teacher:
    home, _, name = given.rpartition(":")
    try:
        made = getattr(_python(home), name)()
        if not isinstance(made, nn.Module):
            raise RequestError(
                f"{given} returned {type(made).__name__}",
                "return a torch module, with .preprocess where it needs another than ImageNet's",
            )
        preprocess = getattr(made, "preprocess", None)
        if not isinstance(preprocess, Preprocess):
            preprocess = timm_preprocess(SIZE)
        return _module(
            made.eval(),
            given,
            _weights_hash(made),
            getattr(made, "labels", None),
            preprocess,
            device,
            any_size=True,
        )
    except RequestError:
        raise
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{given} needs {error.name}, which is not installed", "install what the teacher needs"
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise RequestError(
            f"{given} failed ({type(error).__name__}: {error})",
            f"it is called without arguments and returns a module for float32 (B, 3, {SIZE}, {SIZE})",
        ) from error


def _python(home: str) -> Any:
    if not home.endswith(".py"):
        return importlib.import_module(home)
    spec = importlib.util.spec_from_file_location(Path(home).stem, home)
    if spec is None or spec.loader is None or not Path(home).is_file():
        raise RequestError(f"{home} is no Python file", "give FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _module(
    module: nn.Module,
    name: str,
    digest: str,
    labels: tuple[Label, ...] | None,
    preprocess: Preprocess,
    device: ComputeDevice,
    any_size: bool,
) -> Teacher:
    module = device.place(module.requires_grad_(False))

    def logits(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode(), device.autocast():
            answer = module(device.images(torch.from_numpy(images)))
        if not isinstance(answer, torch.Tensor) or answer.ndim != 2:
            raise RequestError(
                f"{name} answers {_shown(answer)}", "it must answer one tensor, (B, classes)"
            )
        return np.asarray(answer.float().cpu().numpy(), np.float32)

    classes = logits(np.zeros((1, 3, preprocess.size, preprocess.size), np.float32)).shape[1]
    if labels is not None and not (
        matches_type(labels, tuple[Label, ...]) and len(labels) == classes
    ):
        raise RequestError(
            f"{name}.labels are not those of its {classes} classes",
            "give it a tuple of tinyvit.labels.Label, one a class",
        )
    return Teacher(
        name, digest, classes, labels or imagenet_labels(classes), preprocess, logits, any_size
    )


def _shown(answer: object) -> str:
    return (
        f"a tensor {tuple(answer.shape)}"
        if isinstance(answer, torch.Tensor)
        else type(answer).__name__
    )


def _weights_hash(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()
