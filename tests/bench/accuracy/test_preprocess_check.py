"""Wrong preprocessing is found, and the right preprocessing is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tinyvit.bench import cli
from tinyvit.bench.accuracy import preprocess_check
from tinyvit.bench.accuracy.hub import open_labeled_images
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.preprocess_check import check_preprocess, list_candidates
from tinyvit.data.dataset import DatasetLocation
from tinyvit.manifest_parts import EmbeddedPreprocessing
from tinyvit.preprocess import Preprocess, timm_preprocess
from tinyvit.runtimes.classifier import Classifier


def draw_conclusion(artifact: Path, class_folders: Path) -> str:
    dataset = open_labeled_images(DatasetLocation(str(class_folders)))
    return check_preprocess(str(artifact), dataset, EvaluationOptions(threads=1)).conclusion


def test_right_preprocessing_is_confirmed(
    small_classifier: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["accuracy", str(small_classifier), "--data", str(class_folders), "--threads", "1"]
    assert cli.main([*command, "--preprocess-check"]) == 0
    output = capsys.readouterr().out
    assert "| its own preprocessing | 100.00% |" in output
    assert "none of 8 other kinds of preprocessing is significantly better" in output


def test_unreadable_images_are_left_out(small_classifier: Path, class_folders: Path) -> None:
    for path in sorted(class_folders.rglob("*.png"))[:2]:
        path.write_bytes(b"damaged")
    conclusion = draw_conclusion(small_classifier, class_folders)
    assert "100.0% of 38 images are correct" in conclusion


def test_a_wrong_mean_is_found(
    small_classifier: Path, class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact is opened as if its manifest stated no mean and standard deviation."""
    wrong = Preprocess(32, 36, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def open_wrong_classifier(path: str, options: EvaluationOptions) -> Classifier:
        return Classifier(path, threads=options.threads, preprocess=wrong)

    monkeypatch.setattr(preprocess_check, "open_classifier", open_wrong_classifier)
    conclusion = draw_conclusion(small_classifier, class_folders)
    assert "with ImageNet's mean and std, 100.0% of 40 images are correct" in conclusion


def test_exchanged_colors_are_found(
    small_classifier: Path, class_folders: Path, shaded_images: list[Image.Image]
) -> None:
    for path in class_folders.rglob("*.png"):
        red, green, blue = shaded_images[int(path.stem)].split()
        Image.merge("RGB", (blue, green, red)).save(path)
    conclusion = draw_conclusion(small_classifier, class_folders)
    assert "with red and blue exchanged, 100.0% of 40 images are correct" in conclusion


@pytest.mark.parametrize(
    ("embedded_preprocessing", "count"), [("host", 8), ("normalize", 6), ("full", 1)]
)
def test_only_what_the_artifact_leaves_open_is_tried(
    embedded_preprocessing: EmbeddedPreprocessing, count: int
) -> None:
    own = timm_preprocess(64)
    candidates = list_candidates(own, embedded_preprocessing)
    assert len(candidates) == count
    assert all(c.preprocess != own or c.channels == "bgr" for c in candidates)
