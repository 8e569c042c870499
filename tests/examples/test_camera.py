"""The live loop on a video that is made here: the right labels, none stale, and frames that come too fast are replaced, not queued."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests.helpers.scripts import load_script

cv2 = pytest.importorskip("cv2", reason="pip install opencv-python-headless")

CAMERA = Path(__file__).parents[2] / "examples" / "camera" / "camera.py"
FRAMES, FPS = 30, 15


@pytest.fixture(scope="module")
def camera() -> ModuleType:
    return load_script(CAMERA)


@pytest.fixture(scope="module")
def video(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a cup of coffee that moves a little."""
    path = tmp_path_factory.mktemp("video") / "coffee.avi"
    with Image.open(images / "coffee.jpg") as opened:
        picture = np.asarray(opened.convert("RGB").resize((352, 320)))[..., ::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (320, 320))
    for i in range(FRAMES):
        writer.write(np.ascontiguousarray(picture[:, i : i + 320]))
    writer.release()
    return path


def test_a_video_is_classified_and_drawn(
    demo: dict[str, Path], video: Path, tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn.mp4"
    done = subprocess.run(
        [sys.executable, CAMERA, demo["onnx"], video, "--save", drawn],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = re.fullmatch(
        r"(\d+) frames, ([\d.]+) a second; (\d+) ms .*; (\d+) replaced by newer ones\n", done.stdout
    )
    assert said is not None, done.stdout
    frames, replaced = int(said[1]), int(said[4])
    assert frames >= 1
    assert frames + replaced == FRAMES
    assert float(said[2]) > 0
    seen = cv2.VideoCapture(str(drawn))
    seconds = seen.get(cv2.CAP_PROP_FRAME_COUNT) / seen.get(cv2.CAP_PROP_FPS)
    assert (
        0 < seconds <= frames / float(said[2]) + 0.1
    )  # the run began before its first frame was written


def test_a_slow_model_gets_the_newest_frame_and_no_queue(camera: ModuleType, video: Path) -> None:
    taken: list[float] = []

    class Slow:
        def predict(self, frame: object, channels: str) -> list[object]:
            taken.append(time.monotonic())
            time.sleep(0.4)
            return []

    figures = camera.loop(Slow(), str(video), lambda frame: True)
    assert figures["frames"] == len(taken)
    assert figures["frames"] + figures["dropped"] == FRAMES
    assert figures["dropped"] > figures["frames"]


def test_the_newest_replaces_what_nobody_took(camera: ModuleType) -> None:
    newest = camera.Newest()
    for at in range(3):
        newest.put(camera.Shot(np.zeros((1, 1, 3), np.uint8), at))
    assert newest.take().at == 2
    newest.close()
    assert newest.take() is None
    assert newest.replaced == 2


def test_labels_are_those_of_the_photograph(
    camera: ModuleType, demo: dict[str, Path], video: Path
) -> None:
    from tinyvit import Classifier

    with Classifier(demo["onnx"], top_k=1) as classifier:
        shot = next(iter(camera.shots(str(video))))
        assert classifier.predict(shot.frame, channels="bgr")[0].label == "espresso"


def test_no_screen_is_one_line(demo: dict[str, Path], video: Path) -> None:
    if "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV has windows")
    done = subprocess.run(
        [sys.executable, CAMERA, demo["onnx"], video], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: OpenCV has no window here: give --save FILE, or install opencv-python"
    ]


def test_a_source_that_cannot_be_opened_is_one_line(demo: dict[str, Path], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, CAMERA, demo["onnx"], tmp_path / "none.mp4"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "cannot be opened" in done.stderr.splitlines()[-1]
