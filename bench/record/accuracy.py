"""The accuracy results of a benchmark record."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit.bench.record.artifact_and_device import ArtifactInfo


@dataclass(frozen=True)
class ClassAccuracy:
    """The accuracy on the images of one class.

    Attributes:
        label: Name of the class.
        wnid: WordNet id of the class; "" if the class has none.
        image_count: Number of classified images of the class; with a reference, of images that
            both artifacts classified.
        top1: Top-1 accuracy of the artifact on these images, in percent.
        reference_top1: Top-1 accuracy of the reference artifact on these images, in percent; None
            without a reference.
    """

    label: str
    wnid: str
    image_count: int
    top1: float
    reference_top1: float | None = None


@dataclass(frozen=True)
class ReferenceComparison:
    """Comparison, image by image, of an artifact's predictions with those of a reference.

    Attributes:
        path: Path of the reference artifact.
        agreement: Percentage of images for which both predict the same class.
        worse: Number of images that only the reference classifies correctly.
        better: Number of images that only the artifact classifies correctly.
        p_value: Two-sided p-value of McNemar's exact test on `worse` and `better`.
    """

    path: str
    agreement: float
    worse: int
    better: int
    p_value: float


@dataclass(frozen=True)
class AccuracyResult:
    """The accuracy of one artifact on labeled images.

    Attributes:
        artifact: The artifact and its engine.
        classified_count: Number of images that were read and classified.
        unreadable_count: Number of images that could not be read.
        total_count: Sum of `classified_count` and `unreadable_count`.
        top1: Top-1 accuracy on the classified images, in percent.
        top5: Top-5 accuracy on the classified images, in percent. Always 100 for a model of at
            most five classes.
        top1_interval: Wilson's 95% interval of `top1`, in percent.
        top5_interval: Wilson's 95% interval of `top5`, in percent.
        expected_calibration_error: Confidence error in percent: how far the confidence (the
            probability of the predicted class) is from the accuracy, on average over 15 bins of
            confidence. It has nothing to do with the calibration of int8 networks.
        preprocess: Description of the preprocessing in words.
        images_per_s: Throughput in images per second, including reading and preprocessing. Images
            that an earlier, interrupted run classified are not counted (option --resume).
        reference: Comparison with the reference artifact; None without a reference.
        classes: Accuracy of each class that has images. An image with several correct classes
            counts for the first of them. With a reference, the classes with the largest loss come
            first; otherwise those with the lowest accuracy.
        predictions: Index of the predicted class of every image, -1 for an unreadable image;
            empty if not requested.
    """

    artifact: ArtifactInfo
    classified_count: int
    unreadable_count: int
    total_count: int
    top1: float
    top5: float
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]
    expected_calibration_error: float
    preprocess: str
    images_per_s: float
    reference: ReferenceComparison | None = None
    classes: tuple[ClassAccuracy, ...] = ()
    predictions: tuple[int, ...] = ()
