"""Makes the photographs, folders and artifacts that the measurements need."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.labels import Label
from tinyvit.studies.export_process import run_export
from tinyvit.studies.scaling.generated_pictures import link_pictures, read_class_labels

_POWER = 1.5
"""The amplitude falls with this power of the frequency. JPEG files then have the size of those of a
camera."""
_CONTRAST, _SENSOR_NOISE = 55.0, 2.0
"""Standard deviations in gray levels: of the photograph, and of the noise of the camera."""
_COLOR_SHARE = 0.3
"""How much the color channels differ, beside what they have in common."""
_QUALITY = 90
_MEMORY_FOLDER = Path("/dev/shm")
"""A file system in memory, where a million names can be deleted within seconds."""
CALIBRATION_IMAGES = 32
"""Number of photographs with which the artifacts are calibrated, whose labels do not matter."""
COMPARED_IMAGES = 32
"""Number of further photographs, on which an export compares int8 with float32."""


@dataclass(frozen=True)
class Plan:
    """The sizes of all measurements.

    Attributes:
        large_size: Width and height of the large photograph.
        small_size: Width and height of the small photographs.
        runs: Number of predictions in one process.
        web_runs: Number of predictions in one browser, and of new browsers.
        pictures: Number of small photographs that are classified for a rate.
        validation_pictures: Number of pictures of --val-data that are used.
        names: Number of names of images that are listed.
        tiny_pictures: Number of pictures whose accuracy is measured.
        calibration_pictures: Number of pictures for which the memory of calibration is measured.
        large_img_size: Size in pixels of the images of a network whose calibration needs memory.
        export_options: Options of all measured exports.
        synthetic_options: Options of the export that is calibrated on synthetic images.
        validation_options: Options of the export with validation data.
        targets: Values of the option --target of the export to several targets.
    """

    large_size: tuple[int, int] = (4000, 3000)
    small_size: tuple[int, int] = (400, 400)
    runs: int = 30
    web_runs: int = 7
    pictures: int = 200
    validation_pictures: int = 1000
    names: int = 1_000_000
    tiny_pictures: int = 100_000
    calibration_pictures: int = 2000
    large_img_size: int = 512
    export_options: tuple[str, ...] = ()
    synthetic_options: tuple[str, ...] = ()
    validation_options: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("all",)


QUICK = Plan(
    large_size=(1600, 1200),
    runs=3,
    web_runs=1,
    pictures=4,
    validation_pictures=20,
    names=3000,
    tiny_pictures=40,
    calibration_pictures=40,
    large_img_size=96,
    export_options=("--img-size", "64"),
    synthetic_options=("--calib-count", "32", "--min-agreement", "0"),
    validation_options=("--max-drop", "100"),
    targets=("onnx",),
)
"""Sizes that only show that the program works."""


class Inputs:
    """Files that several measurements share. Each is made when it is needed first.

    Attributes:
        folder: A temporary folder.
        plan: The sizes.
        calib_data: Labeled images to calibrate with, if the user has any.
        val_data: Labeled images to validate with, if the user has any.
    """

    def __init__(self, folder: Path, plan: Plan, data: tuple[Path | None, Path | None]) -> None:
        """Set the sizes.

        Args:
            folder: A temporary folder.
            plan: The sizes.
            data: `calib_data` and `val_data`.
        """
        self.folder = folder
        self.plan = plan
        self.calib_data, self.val_data = data

    def make_large_photograph(self) -> Path:
        """Make the large photograph."""
        return self._save_photograph("large.jpg", self.plan.large_size, 0)

    def make_small_photograph(self) -> Path:
        """Make one small photograph."""
        return self._save_photograph("small.jpg", self.plan.small_size, 1)

    def make_small_photographs(self, count: int) -> Path:
        """Make a folder of different small photographs.

        Args:
            count: Number of photographs.
        """
        folder = self.folder / f"photographs-{count}"
        for index in range(count):
            self._save_photograph(f"{folder.name}/{index:05}.jpg", self.plan.small_size, 10 + index)
        return folder

    def export_demo(self, name: str, *options: str) -> Path:
        """Export the demo model with the present code; in int8 if the name says so.

        Args:
            name: Name of the file.
            *options: Further options of tinyvit-export.

        Raises:
            ArtifactError: The export fails.
        """
        path = self.folder / name
        if path.exists():
            return path
        if "int8" in name:
            photographs = self.make_small_photographs(CALIBRATION_IMAGES + COMPARED_IMAGES)
            count = str(CALIBRATION_IMAGES)
            options += ("--int8", "--calib-data", str(photographs), "--calib-count", count)
            options += ("--min-agreement", "0")
        export_error = run_export(("--model", "demo", *options, "-o", str(path)))
        if export_error is not None:
            raise ArtifactError("the demo model cannot be exported", export_error)
        return path

    def make_names(self, count: int) -> Path:
        """Make many names of few pictures, in one folder for each class of the demo model.

        Args:
            count: Number of names.

        Returns:
            The folder, which is in memory if the system has such a file system.
        """
        return link_pictures(self._choose_links_folder(), count, self._read_labels())

    def sample_validation(self) -> Path:
        """Copy as many pictures of the validation data as the plan says, of all classes.

        Raises:
            RequestError: There are no validation data, or they have too few pictures.
        """
        if self.calib_data is None or self.val_data is None:
            raise RequestError(
                "it needs labeled photographs", "give --calib-data DIR and --val-data DIR"
            )
        root, count = self.folder / "validation", self.plan.validation_pictures
        if not root.exists():
            paths = sorted(path for path in self.val_data.glob("*/*") if path.is_file())
            if len(paths) < count:
                raise RequestError(
                    f"{self.val_data} has fewer than {count} images", "give another --val-data"
                )
            for path in choose_evenly(paths, count):
                copy = root / path.parent.name / path.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        return root

    def remove_names(self) -> None:
        """Remove the folder in memory, if it was made."""
        folder = self._find_links_folder()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _find_links_folder(self) -> Path | None:
        return _MEMORY_FOLDER / self.folder.name if _MEMORY_FOLDER.is_dir() else None

    def _choose_links_folder(self) -> Path:
        folder = self._find_links_folder() or self.folder / "links"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _read_labels(self) -> tuple[Label, ...]:
        return read_class_labels(self.export_demo("demo-64.onnx", "--img-size", "64"))

    def _save_photograph(self, name: str, size: tuple[int, int], seed: int) -> Path:
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            make_photograph(size, seed).save(path, quality=_QUALITY)
        return path


def make_photograph(size: tuple[int, int], seed: int) -> Image.Image:
    """Make noise whose frequencies are distributed as in a photograph.

    Args:
        size: Width and height in pixels.
        seed: Photographs with different seeds are different.
    """
    width, height = size
    rng = np.random.default_rng(seed)
    rows = np.fft.fftfreq(height).astype(np.float32)[:, None]
    frequencies = np.hypot(rows, np.fft.rfftfreq(width).astype(np.float32)[None])
    frequencies[0, 0] = np.inf  # the mean is set below

    def make_smooth_noise() -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
        spectrum = np.fft.rfft2(rng.standard_normal((height, width), np.float32))
        noise = np.asarray(np.fft.irfft2(spectrum / frequencies**_POWER, (height, width)))
        noise /= noise.std()
        return noise

    shared = make_smooth_noise()
    sensor_noise = _SENSOR_NOISE * rng.standard_normal((height, width), np.float32)
    channels = []
    for _ in range(3):
        channel = shared + _COLOR_SHARE * make_smooth_noise()
        channel = 128 + _CONTRAST * channel / channel.std() + sensor_noise
        channels.append(np.clip(channel, 0, 255).astype(np.uint8))
    return Image.fromarray(np.stack(channels, axis=-1))


def choose_evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """Choose paths at equal distances.

    Args:
        paths: All paths.
        count: Number of paths to choose, at most that of all.
    """
    return [paths[index * len(paths) // count] for index in range(count)]
