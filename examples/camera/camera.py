"""Classify a camera or a video live.

Capture, network and drawing run at the same time, always on the newest frame:

    python examples/camera/camera.py demo.onnx              # the first camera, in a window; q quits
    python examples/camera/camera.py demo.onnx video.mp4    # a video file, at its own speed
    python examples/camera/camera.py demo.onnx video.mp4 --save drawn.mp4

This needs `pip install opencv-python` (opencv-python-headless on a machine without a screen).
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from tinyvit import Classifier, Prediction, TinyViTError

Frame = npt.NDArray[np.uint8]

DEFAULT_FPS = 25
"""Frames per second of a video file that states none, and of the saved video."""


@dataclass(frozen=True)
class CapturedFrame:
    """A frame and the time at which it was captured.

    Attributes:
        frame: Pixels, uint8 (height, width, 3), BGR.
        time_s: Seconds of `time.monotonic()`.
    """

    frame: Frame
    time_s: float


@dataclass(frozen=True)
class ClassifiedFrame:
    """A captured frame and its predictions, the most probable class first."""

    captured: CapturedFrame
    predictions: list[Prediction]


@dataclass(frozen=True)
class LiveStatistics:
    """Statistics of a live run.

    Attributes:
        frames: Frames that were shown.
        dropped: Frames that newer ones replaced before they were shown.
        fps: Shown frames per second.
        delay_ms: Median time from capturing a frame to showing it.
    """

    frames: int
    dropped: int
    fps: float
    delay_ms: float


Item = TypeVar("Item")


class LatestSlot(Generic[Item]):
    """Room for one item between two threads: a new item replaces one that nobody took.

    Attributes:
        replaced: Number of items that were replaced.
    """

    def __init__(self) -> None:
        self.replaced = 0
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._is_closed = False

    def put(self, item: Item) -> None:
        """Store an item, and replace one that nobody took."""
        with self._changed:
            self.replaced += self._item is not None
            self._item = item
            self._changed.notify()

    def close(self) -> None:
        """Declare that no more items will come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def take(self) -> Item | None:
        """Wait for an item and return it; None after `close` if there is no item left."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._is_closed)
            item, self._item = self._item, None
            return item


def capture_frames(source: str) -> Iterator[CapturedFrame]:
    """Capture frames as they come; frames of a file come at the speed that the file states.

    Args:
        source: Number or path of a camera ("0", "/dev/video0"), URL of a stream ("rtsp://...") or
            path of a video file.

    Yields:
        The frames.
    """
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        raise SystemExit(
            f"error: {source} cannot be opened: give a camera's number or a video that OpenCV reads"
        )
    is_live = source.isdigit() or source.startswith("/dev/") or "://" in source
    interval_s = 0.0 if is_live else 1 / (capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS)
    next_frame_s = time.monotonic()
    try:
        while True:
            was_read, frame = capture.read()
            if not was_read:
                return
            next_frame_s = max(next_frame_s + interval_s, time.monotonic() - interval_s)
            time.sleep(max(0.0, next_frame_s - time.monotonic()))
            yield CapturedFrame(frame, time.monotonic())  # type: ignore[arg-type]
    finally:
        capture.release()


def draw_text(frame: Frame, predictions: list[Prediction], status: str) -> None:
    """Draw a status line, and the predictions with their scores, into a frame."""
    lines = [status, *(f"{item.score:4.0%} {item.label}" for item in predictions)]
    frame[: 12 + 24 * len(lines), :400] //= 3  # A dark background makes the text readable.
    for row, line in enumerate(lines):
        origin, white = (10, 26 + 24 * row), (255, 255, 255)
        cv2.putText(frame, line, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.6, white, 1, cv2.LINE_AA)


def run_live(classifier: Classifier, source: str, show: Callable[[Frame], bool]) -> LiveStatistics:
    """Capture, classify and show frames until the source ends or `show` returns False.

    Args:
        classifier: The opened model.
        source: Camera or video, as for `capture_frames`.
        show: Called with every drawn frame; returns whether to go on.

    Returns:
        Statistics of the run.
    """
    captured, classified = LatestSlot[CapturedFrame](), LatestSlot[ClassifiedFrame]()
    stop, errors = threading.Event(), list[BaseException]()

    def capture() -> None:
        for frame in capture_frames(source):
            captured.put(frame)
            if stop.is_set():
                break

    def classify() -> None:
        while (item := captured.take()) is not None and not stop.is_set():
            classified.put(ClassifiedFrame(item, classifier.predict(item.frame, channels="bgr")))

    threads = [start_thread(capture, captured, errors), start_thread(classify, classified, errors)]
    start_s = time.monotonic()
    try:
        delays_ms = show_frames(classified, show)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=5)
    if errors:
        raise errors[0]
    return LiveStatistics(
        frames=len(delays_ms),
        dropped=captured.replaced + classified.replaced,
        fps=len(delays_ms) / (time.monotonic() - start_s),
        delay_ms=median(delays_ms) if delays_ms else 0.0,
    )


def show_frames(
    classified: LatestSlot[ClassifiedFrame], show: Callable[[Frame], bool]
) -> list[float]:
    """Draw and show frames until they end, `show` returns False, or the user presses Ctrl-C.

    Args:
        classified: Where the frames come from.
        show: Called with every drawn frame; returns whether to go on.

    Returns:
        For each shown frame, the time from its capture to its display, in milliseconds.
    """
    delays_ms: list[float] = []
    start_s = time.monotonic()
    try:
        while (item := classified.take()) is not None:
            fps = (len(delays_ms) + 1) / (time.monotonic() - start_s)
            delay_ms = 1000 * (time.monotonic() - item.captured.time_s)
            status = f"{fps:.1f} frames per second, {delay_ms:.0f} ms behind"
            draw_text(item.captured.frame, item.predictions, status)
            go_on = show(item.captured.frame)
            delays_ms.append(1000 * (time.monotonic() - item.captured.time_s))
            if not go_on:
                break
    except KeyboardInterrupt:
        pass  # Ctrl-C is how a camera whose frames are saved is stopped.
    return delays_ms


def start_thread(
    work: Callable[[], None], output: LatestSlot[Any], errors: list[BaseException]
) -> threading.Thread:
    """Run `work` in a thread; at its end, close its output and append its error to `errors`."""

    def run() -> None:
        try:
            work()
        except (SystemExit, Exception) as error:
            errors.append(error)
        finally:
            output.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def show_in_window(frame: Frame) -> bool:
    """Show a frame on the screen; return False once the user has pressed q."""
    try:
        cv2.imshow("TinyViT", frame)
    except cv2.error as error:
        raise SystemExit(
            "error: OpenCV has no window here: give --save FILE, or install opencv-python"
        ) from error
    return cv2.waitKey(1) != ord("q")


class VideoFile:
    """An .mp4 file that plays at the speed at which its frames came.

    It has a fixed number of frames per second, so a frame is repeated until the next one comes.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._writer: cv2.VideoWriter | None = None
        self._start_s, self._frames = 0.0, 0

    def write(self, frame: Frame) -> bool:
        """Write a frame; always return True."""
        if self._writer is None:
            height, width = frame.shape[:2]
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(self._path, codec, DEFAULT_FPS, (width, height))
            if not self._writer.isOpened():
                raise SystemExit(
                    f"error: {self._path} cannot be written: give an .mp4 in a folder that exists"
                )
            self._start_s = time.monotonic()
        while self._frames <= DEFAULT_FPS * (time.monotonic() - self._start_s):
            self._writer.write(frame)
            self._frames += 1
        return True

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="A file that tinyvit-export wrote.")
    parser.add_argument(
        "source", nargs="?", default="0", help="Number of a camera, or a video file (default: 0)."
    )
    parser.add_argument("--save", metavar="FILE", help="Write an .mp4 instead of opening a window.")
    arguments = parser.parse_args()
    video_file = VideoFile(arguments.save) if arguments.save else None
    show = video_file.write if video_file else show_in_window
    try:
        with Classifier(arguments.model, top_k=3) as classifier:
            statistics = run_live(classifier, arguments.source, show)
    except TinyViTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if video_file:
            video_file.close()
    print(
        f"{statistics.frames} frames, {statistics.fps:.1f} per second;"
        f" {statistics.delay_ms:.0f} ms from capture to display (median);"
        f" {statistics.dropped} replaced by newer ones"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
