"""tinyvit-predict writes tables and annotated images, downloads URLs, and sums up folders."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_server import Answer, serve
from tests.helpers.small_classifiers import ArtifactBuilder
from tinyvit.runtimes import pretrained
from tinyvit.runtimes.cli import inspect, predict, verify
from tinyvit.runtimes.commands.annotated_image import annotate_image
from tinyvit.runtimes.commands.predict_results import PredictResults, choose_saved_names
from tinyvit.runtimes.predictions import Prediction

CaptureFixture = pytest.CaptureFixture[str]
PREDICTIONS = [
    Prediction(1, "tabby", "n02123045", 0.75),
    Prediction(0, "=1+1", "", 0.25),
]


def run(capsys: CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    """Run tinyvit-predict; return its exit code, stdout and stderr."""
    code = predict([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(("word", "hint"), [("out.csv", "--csv"), ("out.json", "--json")])
def test_a_file_for_the_table_is_written_by_redirection(
    word: str, hint: str, capsys: CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        predict(["demo.onnx", "cat.jpg", "--csv", word])
    expected = f"error: the argument {word} is not expected: use {hint} > {word}\n"
    assert capsys.readouterr().err == expected


def test_the_table_has_a_line_for_each_prediction_and_each_unreadable_image(
    build_artifact: ArtifactBuilder,
    image_files: list[Path],
    tmp_path: Path,
    capsys: CaptureFixture,
) -> None:
    bad_file = tmp_path / "bad.jpg"
    bad_file.write_text("text")
    arguments = (build_artifact(), image_files[0], bad_file, "--top-k", 2)
    code, out, err = run(capsys, *arguments, "--csv")
    assert code == 1
    assert err.startswith(f"error: {bad_file}")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["image", "rank", "index", "label", "wnid", "score", "error"]
    assert [(row["image"], row["rank"]) for row in rows] == [
        (str(image_files[0]), "1"),
        (str(image_files[0]), "2"),
        (str(bad_file), ""),
    ]
    assert rows[2]["error"] in err
    _, out, _ = run(capsys, *arguments, "--json")
    first = json.loads(out)["results"][0]["predictions"][0]
    assert rows[0]["index"] == str(first["index"])
    assert rows[0]["label"] == first["label"]
    assert rows[0]["score"] == f"{first['score']:.6f}"


def test_the_summary_of_a_folder_is_no_row_of_the_table(
    build_artifact: ArtifactBuilder, image_files: list[Path], capsys: CaptureFixture
) -> None:
    folder = image_files[0].parent
    code, out, err = run(capsys, build_artifact(), folder, "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    count = len({row["image"] for row in rows})
    assert {row["rank"] for row in rows} == {"1", "2", "3", "4", "5"}
    assert err.splitlines()[-1].startswith(f"{count} images classified; top-1 classes: ")
    assert "classified" not in "".join(run(capsys, build_artifact(), folder, "--json")[1:])


def test_the_table_is_safe_in_a_spreadsheet() -> None:
    results = PredictResults("a.onnx")
    results.add("cat.jpg", PREDICTIONS)
    assert results.format_csv() == [
        "image,rank,index,label,wnid,score,error",
        "cat.jpg,1,1,tabby,n02123045,0.750000,",
        "cat.jpg,2,0,'=1+1,,0.250000,",
    ]


def test_json_and_csv_exclude_each_other(capsys: CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        predict(["a.onnx", "b.jpg", "--json", "--csv"])
    assert capsys.readouterr().err == (
        "error: --csv and --json cannot be given together: give one of them\n"
    )


def test_a_folder_ends_with_a_summary(
    build_artifact: ArtifactBuilder, image_files: list[Path], capsys: CaptureFixture
) -> None:
    image_files[3].write_bytes(b"")
    code, out, _ = run(capsys, build_artifact(), image_files[0].parent)
    assert code == 1
    summary = out.splitlines()[-1]
    assert re.fullmatch(
        r"8 images classified, 1 failed; top-1 classes: .*\(\d\).*; \d+\.\d s", summary
    )
    counts = sum(map(int, re.findall(r"\((\d)\)", summary)))
    assert counts == 8 or " more; " in summary


def test_images_alone_and_json_have_no_summary(
    build_artifact: ArtifactBuilder, image_files: list[Path], capsys: CaptureFixture
) -> None:
    _, out, _ = run(capsys, build_artifact(), image_files[0], image_files[1])
    assert "classified" not in out
    _, out, _ = run(capsys, build_artifact(), image_files[0].parent, "--json")
    assert len(out.splitlines()) == 1


def test_annotated_images_are_written_and_not_replaced(
    build_artifact: ArtifactBuilder,
    image_files: list[Path],
    tmp_path: Path,
    capsys: CaptureFixture,
) -> None:
    folder = tmp_path / "annotated"
    arguments = (build_artifact(), image_files[0], image_files[1], "--save", folder)
    code, _, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    names = [f"{image_files[0].stem}.jpg", f"{image_files[1].stem}.jpg"]
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)
    original_width, original_height = Image.open(image_files[0]).size
    with Image.open(folder / names[0]) as saved:
        assert saved.format == "JPEG"
        assert saved.width == max(original_width, 240)
        assert saved.height > original_height

    before = (folder / names[0]).stat().st_mtime_ns
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {folder / names[0]} exists: ")
    assert (folder / names[0]).stat().st_mtime_ns == before
    assert run(capsys, *arguments, "--overwrite")[0] == 0


def test_the_images_themselves_are_never_replaced(
    build_artifact: ArtifactBuilder, image_files: list[Path], capsys: CaptureFixture
) -> None:
    folder = image_files[0].parent
    content = [file.read_bytes() for file in image_files]
    code, out, err = run(capsys, build_artifact(), folder, "--save", folder, "--overwrite")
    assert (code, out) == (1, "")
    expected = f"error: --save {folder} is the folder of {image_files[0]}: give another folder"
    assert err.splitlines()[-1] == expected
    assert [file.read_bytes() for file in image_files] == content


def test_the_predictions_are_below_the_image_and_do_not_cover_it() -> None:
    pixels = np.full((300, 400, 3), 128, np.uint8)
    image = Image.fromarray(pixels)
    annotated = Image.open(io.BytesIO(annotate_image(image, PREDICTIONS)))
    assert annotated.size == (400, 300 + 2 * 17 + 2 * 6)
    result = np.asarray(annotated)
    assert abs(result[:290].astype(int) - 128).max() <= 2
    below = result[310:]
    assert below.max() > 200, "text"
    assert below[:, -20:].max() < 30, "background"


def test_saved_names_differ() -> None:
    names = choose_saved_names(["a/cat.png", "b/cat.jpg", "b/CAT.jpg", "cat-2.png", ".jpg"])
    assert names == ["cat.jpg", "cat-2.jpg", "CAT-3.jpg", "cat-2-2.jpg", ".jpg.jpg"]


def test_a_url_is_downloaded_and_classified(
    build_artifact: ArtifactBuilder,
    image_files: list[Path],
    tmp_path: Path,
    capsys: CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    answers = {
        "/images/cat.png": Answer(image_files[0].read_bytes()),
        "/page": Answer(b"<html></html>"),
    }
    with serve(answers) as server:
        urls = [f"{server}/images/cat.png", f"{server}/none.png", f"{server}/page"]
        folder = tmp_path / "annotated"
        arguments = (*urls, image_files[0], "s3://a/b.png", "--json", "--save", folder)
        code, out, err = run(capsys, build_artifact(), *arguments)
    assert code == 1
    results = json.loads(out)["results"]
    assert [result["image"] for result in results] == [
        *urls,
        str(image_files[0]),
        "s3://a/b.png",
    ]
    assert results[0]["predictions"] == results[3]["predictions"]
    assert "the server answered with the status 404" in results[1]["error"]
    assert results[2]["error"].startswith(f"{urls[2]} is ")
    assert results[4]["error"].startswith("s3://a/b.png is a URL, not a file: ")
    assert len(err.splitlines()) == 3
    saved = sorted(file.name for file in folder.iterdir())
    assert saved == sorted(["cat.jpg", f"{image_files[0].stem}.jpg"])


def test_errors_and_results_keep_their_order_in_one_pipe(
    build_artifact: ArtifactBuilder, image_files: list[Path]
) -> None:
    image_files[1].write_bytes(b"")
    process = subprocess.run(
        [sys.executable, "-m", "tinyvit", "predict", build_artifact(), *image_files[:3]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    starts = [line for line in process.stdout.splitlines() if not line.startswith("  ")]
    assert starts[0] == str(image_files[0])
    assert starts[1].startswith(f"error: {image_files[1]} is empty")
    assert starts[2] == str(image_files[2])


def test_demo_is_exported_once_and_then_used(
    build_artifact: ArtifactBuilder,
    image_files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: CaptureFixture,
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")

    def copy_small_classifier(model: str, path: Path) -> None:
        assert model == "demo"
        path.write_bytes(build_artifact().read_bytes())

    monkeypatch.setattr(pretrained, "_run_export", copy_small_classifier)
    # The manifest of the small classifier states this hash of its weights.
    monkeypatch.setattr(pretrained, "sha256", lambda path: "0" * 64)
    monkeypatch.setenv("TINYVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "demo", image_files[0])
    assert code == 0
    assert out.splitlines()[0] == str(image_files[0])
    assert re.fullmatch(r"  exporting demo to .*demo\.onnx, which is needed only once\n", err)
    assert verify(["demo"]) == 0
    assert inspect(["demo", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out.splitlines()[0][:4], err) == ("PASS", "")

    (tmp_path / "demo").mkdir()
    assert run(capsys, "demo", image_files[0])[0] == 1, "a folder of this name is not the model"
