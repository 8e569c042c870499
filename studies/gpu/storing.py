"""Measures how many images per second `save-logits` stores, and which of its steps limit it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tinyvit.data.class_folders import ImageFolder, read_image_folder
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import ViewSource, make_view
from tinyvit.distill.logits.module_teachers import Pixels
from tinyvit.distill.logits.records import pack_records, select_top_k
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.store import Store
from tinyvit.distill.logits.teacher_predictions import LogitsRequest
from tinyvit.distill.logits.teachers import open_teachers
from tinyvit.distill.training.device import select_device
from tinyvit.errors import RequestError
from tinyvit.progress import NullProgress
from tinyvit.studies.decoding_throughput import make_jpegs
from tinyvit.studies.gpu.record import Part, Row
from tinyvit.studies.gpu.settings import Settings
from tinyvit.studies.gpu.teachers import DeviceTeacher, command_line_name
from tinyvit.studies.gpu.timing import free_memory, time_alternating

_TOP_K = 10
_FOLDER_COUNT = 2
"""Number of class folders over which the images are distributed."""
_MAX_VIEWS = 128
"""Largest number of views that are made to measure the rate of making views."""
_IMAGES_NAME = "images"


class RateMeter(NullProgress):
    """Measures images per second from the progress of `save_logits`."""

    def __init__(self) -> None:
        # After each batch: the time in seconds, and the number of images stored so far.
        self._points: list[tuple[float, int]] = []

    def advance(self, description: str, done: int, total: int) -> None:
        """Note the time at which `done` images were stored."""
        self._points.append((time.perf_counter(), done))

    @property
    def images_per_s(self) -> float:
        """The rate between the ends of the first and the last batch.

        Raises:
            RequestError: All images were in one batch, so that these ends are the same.
        """
        (begin_s, first_count), (end_s, last_count) = self._points[0], self._points[-1]
        if first_count == last_count:
            raise RequestError(
                f"save-logits stored all {last_count} images in one batch, and the first batch is"
                " not timed",
                "make image_count larger than store_batch in the settings of the study",
            )
        return (last_count - first_count) / (end_s - begin_s)


def open_images(folder: Path) -> ImageFolder:
    """List the images that `measure_storing` made.

    Args:
        folder: The temporary folder of the study.
    """
    return read_image_folder(folder / _IMAGES_NAME)


def _make_images(folder: Path, count: int) -> None:
    """Write JPEG files of 400 x 400 pixels with noise, in class folders."""
    for index, data in enumerate(make_jpegs(count)):
        path = folder / _IMAGES_NAME / f"class{index % _FOLDER_COUNT}" / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def get_store_path(folder: Path, teacher: str) -> Path:
    """Return the folder of the store that `measure_storing` makes with a teacher.

    Args:
        folder: The temporary folder of the study.
        teacher: Name of the teacher.
    """
    return folder / f"store-{teacher}"


def measure_storing(settings: Settings, folder: Path, part: Part) -> None:
    """Store the outputs of every teacher, and measure each step alone.

    Args:
        settings: The settings of the study.
        folder: Temporary folder, in which the images and stores are made.
        part: The part of the record to fill.
    """
    size = settings.img_size or 224
    _make_images(folder, settings.image_count)
    images = open_images(folder)
    for name in settings.teachers:
        part.measure(
            {"teacher": name, "step": "save-logits", "batch": settings.store_batch},
            partial(_measure_save_logits, name, settings, folder),
        )
        free_memory(settings.device)
    part.measure(
        {"step": "making views in one thread", "batch": 1},
        partial(_measure_views, images, size),
    )
    large_batch = settings.loop_batch
    for name in settings.teachers:
        part.measure(
            {"teacher": name, "step": "teacher, with normalization and softmax on the CPU"},
            partial(_measure_teacher, name, size, settings),
        )
        free_memory(settings.device)
        part.measure(
            {
                "teacher": name,
                "step": "teacher, softmax and top K on the device",
                "batch": large_batch,
            },
            partial(_measure_device_teacher, name, _make_pixels(large_batch, size), settings),
        )
        free_memory(settings.device)
    part.measure(
        {"step": "selecting top K and packing records", "batch": large_batch},
        partial(_measure_packing, large_batch, settings),
    )


def _measure_save_logits(name: str, settings: Settings, folder: Path) -> Row:
    """Run `save-logits` for one epoch; the first batch is not timed."""
    meter = RateMeter()
    request = LogitsRequest(
        data=folder / _IMAGES_NAME,
        teachers=(command_line_name(name),),
        epochs=1,
        output=get_store_path(folder, name),
        top_k=_TOP_K,
        size=settings.img_size,
        batch=settings.store_batch,
    )
    store: Store = save_logits(request, meter)
    return {
        "images_per_s": meter.images_per_s,
        "bytes_per_image": store.header.dtype.itemsize,
    }


def _make_pixels(batch: int, size: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)


def _measure_rate(run: Callable[[], object], batch: int, device: str, settings: Settings) -> Row:
    """Time a function that processes `batch` images."""
    timings = time_alternating(
        {"step": run}, device, settings.max_rounds, settings.latency_timing_s
    )
    timing = timings["step"]
    return {"images_per_s": batch / timing.median_ms * 1e3, "median_ms": timing.median_ms}


def _measure_views(images: ImageFolder, size: int) -> Row:
    """Time making one view (augmented image) of each image, at most `_MAX_VIEWS` in all."""
    source = ViewSource(images.open, len(images), size, Augmentation())
    count = min(len(images), _MAX_VIEWS)
    begin_s = time.perf_counter()
    for index in range(count):
        make_view(source, index, seed=index)
    return {"images_per_s": count / (time.perf_counter() - begin_s)}


def _measure_teacher(name: str, size: int, settings: Settings) -> Row:
    """Time a teacher as `save-logits` runs it, at its batch size and at a larger one."""
    (teacher,) = open_teachers((command_line_name(name),), size=None, device=select_device())
    rates = {}
    for batch in (settings.store_batch, settings.loop_batch):
        run = partial(teacher.predict_probabilities, _make_pixels(batch, size))
        rates[f"batch_{batch}"] = _measure_rate(run, batch, settings.device, settings)
    return rates


def _measure_device_teacher(name: str, pixels: Pixels, settings: Settings) -> Row:
    """Time a teacher whose inputs, uint8 images, are already on the device."""
    device = select_device()
    teacher = DeviceTeacher(name, num_classes=1000, top_k=_TOP_K, device=device)
    views = torch.from_numpy(pixels).to(device.name)
    return _measure_rate(partial(teacher.predict, views), len(pixels), settings.device, settings)


def _measure_packing(batch: int, settings: Settings) -> Row:
    """Time selecting the K most probable classes and packing them into records."""
    class_count = 1000
    probabilities = np.random.default_rng(0).dirichlet(np.ones(class_count), batch)
    seeds = np.arange(batch, dtype=np.uint32)

    def pack() -> None:
        predictions = select_top_k(start=0, seeds=seeds, probabilities=probabilities, top_k=_TOP_K)
        pack_records(predictions, _TOP_K)

    return _measure_rate(pack, batch, "cpu", settings)
