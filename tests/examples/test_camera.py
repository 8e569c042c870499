"""The camera example on a generated video: labels are correct, and no frame waits in a queue."""

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

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.helpers.scripts import load_script
from tinyvit import Classifier, Prediction

cv2 = pytest.importorskip("cv2", reason="pip install opencv-python-headless")

CAMERA = Path(__file__).parents[2] / "examples" / "camera" / "camera.py"
FRAMES, FPS = 30, 15
"""Number of frames in the video, and frames per second."""


@pytest.fixture(scope="module")
def camera() -> ModuleType:
    """The module of the example, which imports video.py from its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CAMERA.parent)
        return load_script(CAMERA)


@pytest.fixture(scope="module")
def video(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two seconds in which a cup of coffee moves a little."""
    path = tmp_path_factory.mktemp("video") / "coffee.avi"
    with Image.open(images / "coffee.jpg") as photograph:
        image = np.asarray(photograph.convert("RGB").resize((352, 320)))[..., ::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (320, 320))
    for left in range(FRAMES):
        writer.write(np.ascontiguousarray(image[:, left : left + 320]))
    writer.release()
    return path


def run_camera(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CAMERA, *arguments], capture_output=True, text=True)


def test_every_frame_of_a_file_is_classified_and_written(
    demo: dict[str, Path], video: Path, tmp_path: Path
) -> None:
    drawn_video = tmp_path / "drawn.mp4"
    result = run_camera(demo["onnx"], video, "--save", drawn_video)
    assert result.returncode == 0, result.stderr
    summary = re.fullmatch(
        r"(\d+) frames, ([\d.]+) per second; (\d+) ms .*; (\d+) replaced by newer ones\n",
        result.stdout,
    )
    assert summary is not None, result.stdout
    frames, fps, replaced = int(summary[1]), float(summary[2]), int(summary[4])
    assert (frames, replaced) == (FRAMES, 0)
    assert fps > 0
    capture = cv2.VideoCapture(str(drawn_video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert capture.get(cv2.CAP_PROP_FPS) == FPS


def test_a_saved_camera_plays_at_the_speed_of_the_camera(
    camera: ModuleType, demo: dict[str, Path], video: Path, tmp_path: Path
) -> None:
    output = camera.VideoFile(str(tmp_path / "drawn.mp4"))
    with Classifier(demo["onnx"], top_k=1) as classifier:
        statistics = camera.run_live(classifier, str(video), output.write)
    output.close()
    assert statistics.shown_count >= 1
    assert statistics.shown_count + statistics.dropped_count == FRAMES
    capture = cv2.VideoCapture(str(tmp_path / "drawn.mp4"))
    duration_s = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    # The run began before its first frame was written.
    assert 0 < duration_s <= statistics.shown_count / statistics.fps + 0.1


def test_a_slow_model_gets_the_newest_frame_and_no_queue(camera: ModuleType, video: Path) -> None:
    predicted_at_s: list[float] = []

    class SlowClassifier:
        def predict(self, frame: object, channels: str) -> list[object]:
            predicted_at_s.append(time.monotonic())
            time.sleep(0.4)
            return []

    statistics = camera.run_live(SlowClassifier(), str(video), lambda frame: True)
    assert statistics.shown_count == len(predicted_at_s)
    assert statistics.shown_count + statistics.dropped_count == FRAMES
    assert statistics.dropped_count > statistics.shown_count


def test_the_newest_item_replaces_one_that_nobody_took(camera: ModuleType) -> None:
    slot = camera.LatestSlot()
    for time_s in range(3):
        slot.put(camera.CapturedFrame(np.zeros((1, 1, 3), np.uint8), time_s))
    assert slot.take().time_s == 2
    slot.close()
    assert slot.take() is None
    assert slot.replaced_count == 2


def test_the_label_is_that_of_the_photograph(
    camera: ModuleType, demo: dict[str, Path], video: Path
) -> None:
    with Classifier(demo["onnx"], top_k=1) as classifier:
        captured = next(iter(camera.capture_frames(str(video))))
        assert classifier.predict(captured.frame, channels="bgr")[0].label == "espresso"


def test_no_screen_is_an_error_of_one_line(demo: dict[str, Path], video: Path) -> None:
    if "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV has windows")
    result = run_camera(demo["onnx"], video)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "error: OpenCV has no window here: give --save FILE, or install opencv-python"
    ]


def test_a_source_that_cannot_be_opened_is_an_error_of_one_line(
    demo: dict[str, Path], tmp_path: Path
) -> None:
    result = run_camera(demo["onnx"], tmp_path / "none.mp4")
    assert result.returncode == 1
    assert "cannot be opened" in result.stderr.splitlines()[-1]


def test_labels_of_a_stranger_are_escaped(
    camera: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(cv2, "putText", lambda _frame, text, *_: texts.append(text))
    predictions = [Prediction(0, f"cup\n{HOSTILE_TEXT}", "", 0.5)]
    camera.draw_text(np.zeros((100, 500, 3), np.uint8), predictions, "status")
    assert texts[0] == "status"
    assert texts[1].startswith(" 50% cup\\u000aa\\u001b[2J")
    assert texts[1].isprintable()


def test_a_slow_model_still_gets_every_frame_of_a_file(
    camera: ModuleType, video: Path, tmp_path: Path
) -> None:
    frames: list[object] = []

    class RecordingClassifier:
        def predict(self, frame: object, channels: str) -> list[object]:
            frames.append(frame)
            time.sleep(0.1)
            return []

    output = camera.VideoFile(str(tmp_path / "drawn.mp4"), camera.read_fps(str(video)))
    statistics = camera.convert_file(RecordingClassifier(), str(video), output)
    output.close()
    assert (statistics.shown_count, statistics.dropped_count, len(frames)) == (FRAMES, 0, FRAMES)
    capture = cv2.VideoCapture(str(tmp_path / "drawn.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert capture.get(cv2.CAP_PROP_FPS) == FPS
