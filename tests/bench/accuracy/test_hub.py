"""Datasets of the Hugging Face Hub are read from parquet files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from tinyvit.bench.accuracy.hub import open_labeled_images, read_parquet_dataset
from tinyvit.data.dataset import DatasetLocation
from tinyvit.errors import RequestError
from tinyvit.images.decoding import open_image


def test_parquet_files_of_images_and_labels_are_read(
    shaded_images: list[Image.Image], tmp_path: Path
) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = []
    for image in shaded_images:
        data = io.BytesIO()
        image.save(data, "PNG")
        rows.append({"bytes": data.getvalue(), "path": None})
    table = arrow.table({"image": rows, "label": list(range(40))})
    parquet.write_table(table, tmp_path / "validation-0.parquet", row_group_size=16)
    dataset = read_parquet_dataset([tmp_path / "validation-0.parquet"], "test")
    assert [sample.classes for sample in dataset.samples] == [(f"#{i}",) for i in range(40)]
    pairs = zip(dataset.samples, shaded_images)
    assert all(open_image(sample.get_source()) == image for sample, image in pairs)


def test_parquet_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": ["a"]}), tmp_path / "validation-0.parquet")
    with pytest.raises(RequestError, match="test does not have the columns"):
        read_parquet_dataset([tmp_path / "validation-0.parquet"], "test")


def test_a_dataset_without_a_validation_split_is_refused() -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(RequestError, match="test has no validation split"):
        read_parquet_dataset([], "test")


def test_local_data_needs_no_prefix(predicted_class_folders: Path) -> None:
    dataset = open_labeled_images(DatasetLocation(str(predicted_class_folders)))
    paths = sorted(predicted_class_folders.rglob("*.png"))
    assert [sample.classes for sample in dataset.samples] == [(p.parent.name,) for p in paths]


def test_a_dataset_of_the_hub_takes_no_truth_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--truth cannot be used with hf:a/b"):
        open_labeled_images(DatasetLocation("hf:a/b", tmp_path / "truth.csv"))
