"""Settings of a preprocessing that hold for every image size, and the sources that state them.

A training states its preprocessing in several places: arguments in the checkpoint, `config.json`,
or nowhere. Each place becomes a `PreprocessSource`. `merge_sources` takes every setting from the
first source that states it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tinyvit.errors import CheckpointError, RequestError
from tinyvit.preprocess import FILTER_NAMES, Crop, Interpolation, Preprocess, divide_size

Channels = tuple[float, float, float]
"""One number for each RGB channel."""

SETTING_OPTIONS = {
    "mean": "--mean",
    "std": "--std",
    "interpolation": "--interpolation",
    "crop": "--crop-pct",
    "crop_pct": "--crop-pct",
}
"""The option of tinyvit-export that overrides each setting; --crop-pct selects the center crop."""

_TOLERANCE = 1e-3
"""Largest difference of two numbers that state the same setting, such as 0.485 and 0.4850."""


@dataclass(frozen=True)
class PreprocessSettings:
    """Settings that do not depend on the image size; None where they are not known.

    Attributes:
        mean: Mean of each RGB channel, for pixel values from 0 to 1.
        std: Standard deviation of each RGB channel, for pixel values from 0 to 1.
        interpolation: Name of the resampling filter.
        crop: See `Preprocess.crop`.
        crop_pct: Side of the network's input divided by the length to which the image is resized,
            above 0 and at most 1, as in timm.
    """

    mean: Channels | None = None
    std: Channels | None = None
    interpolation: Interpolation | None = None
    crop: Crop | None = None
    crop_pct: float | None = None

    def apply(self, default: Preprocess) -> Preprocess:
        """Return a preprocessing with these settings.

        Args:
            default: The preprocessing from which a setting is taken if it is None here. Its size is
                that of the result.

        Returns:
            The preprocessing. A `crop_pct` below 1 without a `crop` selects the center crop.

        Raises:
            ArtifactError: `crop` is "squash" or "pad", and `crop_pct` is not 1.
        """
        crop, resize = self.crop or default.crop, default.resize
        if self.crop_pct is not None:
            crop = self.crop or (default.crop if self.crop_pct == 1 else "center")
            # Rounded down, as timm does (timm/data/transforms_factory.py).
            resize = divide_size(default.size, self.crop_pct)
        elif self.crop in ("squash", "pad"):
            resize = default.size
        return replace(
            default,
            resize=resize,
            crop=crop,
            interpolation=self.interpolation or default.interpolation,
            mean=self.mean or default.mean,
            std=self.std or default.std,
        )


@dataclass(frozen=True)
class PreprocessSource:
    """A place that states settings of the preprocessing.

    Attributes:
        name: Name of the place in messages, such as "config.json".
        settings: The settings that it states.
        problems: For each setting that it states and that cannot be used, a clause that says why,
            such as "crop_mode 'border', which artifacts do not offer".
        notes: Facts that a user should know.
    """

    name: str
    settings: PreprocessSettings = PreprocessSettings()
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it states nothing about the preprocessing."""
        return self.settings == PreprocessSettings() and not self.problems


@dataclass(frozen=True)
class MergedSettings:
    """The settings of several sources together.

    Attributes:
        settings: Each setting as the first source states it.
        source_names: Maps the name of each known setting to the name of its source.
        notes: The notes of all sources, and one sentence for each contradiction between them.
    """

    settings: PreprocessSettings
    source_names: dict[str, str]
    notes: tuple[str, ...]


def make_source_from_options(
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    crop_pct: float | None,
    interpolation: str | None,
) -> PreprocessSource:
    """Make a source from the options of a command that override a checkpoint's preprocessing.

    An argument is None if the user did not give the option.

    Args:
        mean: Value of --mean.
        std: Value of --std.
        crop_pct: Value of --crop-pct. It always selects a center crop.
        interpolation: Value of --interpolation.

    Returns:
        A source with these settings. Its name lists the options that the user gave.

    Raises:
        RequestError: A value is not possible.
    """
    if interpolation is not None and interpolation not in FILTER_NAMES:
        raise RequestError(
            f"--interpolation {interpolation} is not possible", f"use {', '.join(FILTER_NAMES)}"
        )
    if crop_pct is not None and not (is_number(crop_pct) and 0.1 <= crop_pct <= 1):
        raise RequestError(
            f"--crop-pct {crop_pct} is not possible",
            "give the side of the input divided by the length to which the image is resized, from"
            " 0.1 to 1, such as 0.875",
        )
    settings = PreprocessSettings(
        mean=_check_channels("--mean", mean, allow_zero=True),
        std=_check_channels("--std", std, allow_zero=False),
        interpolation=interpolation,  # type: ignore[arg-type]  # checked above
        crop=None if crop_pct is None else "center",
        crop_pct=crop_pct,
    )
    stated = _list_stated(settings)
    options = dict.fromkeys(SETTING_OPTIONS[name] for name in stated)
    return PreprocessSource(name=" and ".join(options), settings=settings)


def merge_sources(sources: Iterable[PreprocessSource]) -> MergedSettings:
    """Take every setting from the first source that states it.

    Args:
        sources: The sources, the most important first.

    Returns:
        The settings with the names of their sources.

    Raises:
        CheckpointError: The first source that states a setting states a value that cannot be used.
    """
    merged = PreprocessSettings()
    source_names: dict[str, str] = {}
    notes: list[str] = []
    for source in sources:
        for name in (setting.name for setting in fields(PreprocessSettings)):
            value = getattr(source.settings, name)
            if name in source_names:
                if value is not None and not _is_same(value, getattr(merged, name)):
                    notes.append(
                        f"different values of {name} are stated:"
                        f" {format_setting(getattr(merged, name))} by {source_names[name]}, and"
                        f" {format_setting(value)} by {source.name}; that of {source_names[name]}"
                        " is used"
                    )
            elif name in source.problems:
                raise CheckpointError(
                    f"{source.name} states {source.problems[name]}",
                    f"give {SETTING_OPTIONS[name]} with the value to use",
                )
            elif value is not None:
                merged = replace(merged, **{name: value})
                source_names[name] = source.name
        notes += source.notes
    return MergedSettings(merged, source_names, tuple(notes))


def describe_sources(source_names: Mapping[str, str], default: str) -> str:
    """Describe where the preprocessing comes from.

    Args:
        source_names: `MergedSettings.source_names`.
        default: Name of the source of all settings that are not in `source_names`.

    Returns:
        The only source, or each source with its settings, such as "--mean (mean), config.json
        (std, interpolation, crop)".
    """
    names = dict(source_names)
    # `crop` and `crop_pct` both describe the crop, so they are listed as one setting.
    crop_source = names.pop("crop_pct", None) or names.get("crop")
    if crop_source is not None:
        names["crop"] = crop_source
    settings_by_source: dict[str, list[str]] = {}
    for setting in ("mean", "std", "interpolation", "crop"):
        settings_by_source.setdefault(names.get(setting, default), []).append(setting)
    if len(settings_by_source) == 1:
        return next(iter(settings_by_source))
    return ", ".join(
        f"{source} ({', '.join(settings)})" for source, settings in settings_by_source.items()
    )


def format_setting(value: object) -> str:
    """Format the value of a setting for a message."""
    if isinstance(value, tuple):
        return "/".join(f"{number:.4g}" for number in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    """Return whether a value is an int or float, not a bool, with a magnitude below 1e9."""
    # NaN fails the comparison.
    return type(value) in (int, float) and abs(value) < 1e9


def _check_channels(
    option: str, values: Sequence[float] | None, allow_zero: bool
) -> Channels | None:
    """Check the numbers of --mean or --std; a single number holds for all channels."""
    if values is None:
        return None
    numbers = list(values) * 3 if len(values) == 1 else list(values)
    is_possible = len(numbers) == 3 and all(
        is_number(number) and 0 <= number <= 1 and (allow_zero or number > 0) for number in numbers
    )
    if is_possible:
        return numbers[0], numbers[1], numbers[2]
    text = ",".join(map(str, values))
    remedy = (
        "give one number for each RGB channel, for pixel values from 0 to 1, such as 0.5,0.5,0.5"
    )
    if len(numbers) == 3 and all(is_number(number) and 0 <= number <= 255 for number in numbers):
        scaled = ",".join(f"{number / 255:.4g}" for number in numbers)
        remedy = f"{remedy}; if yours are for pixel values from 0 to 255, divide by 255: {scaled}"
    raise RequestError(f"{option} {text} is not possible", remedy)


def _list_stated(settings: PreprocessSettings) -> list[str]:
    """Return the names of the settings that are not None."""
    names = [setting.name for setting in fields(settings)]
    return [name for name in names if getattr(settings, name) is not None]


def _is_same(first: Any, second: Any) -> bool:
    """Return whether two values of a setting are the same, apart from rounding."""
    if isinstance(first, tuple):
        return all(abs(a - b) <= _TOLERANCE for a, b in zip(first, second))
    if isinstance(first, float) or isinstance(second, float):
        return bool(abs(first - second) <= _TOLERANCE)
    return bool(first == second)
