"""Classify a camera or a video live.

Capturing, classifying and drawing run at the same time, always on the newest frame. With a video
file and --save, every frame is classified, however long that takes:

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
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, TypeVar

import cv2
from video import (
    CapturedFrame,
    Frame,
    ShowFrame,
    VideoFile,
    capture_frames,
    is_live,
    read_fps,
    show_in_window,
)

from tinyvit import Classifier, Prediction, TinyViTError
from tinyvit.text.safe_text import escape_text

TEXT_WIDTH, LINE_HEIGHT = 400, 24
"""Size in pixels of the area of one line of text."""


@dataclass(frozen=True)
class ClassifiedFrame:
    """A captured frame and its predictions, the most probable class first."""

    captured: CapturedFrame
    predictions: list[Prediction]


@dataclass(frozen=True)
class LiveStatistics:
    """Statistics of a run.

    Attributes:
        shown_count: Number of frames that were shown or written.
        dropped_count: Number of frames that newer ones replaced before they were shown.
        fps: Shown frames per second.
        delay_ms: Median time from capturing a frame to showing it.
    """

    shown_count: int
    dropped_count: int
    fps: float
    delay_ms: float


Item = TypeVar("Item")


class LatestSlot(Generic[Item]):
    """Holds the newest item that one thread puts, until another thread takes it.

    Attributes:
        replaced_count: Number of items that newer ones replaced before they were taken.
    """

    def __init__(self) -> None:
        self.replaced_count = 0
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._is_closed = False

    def put(self, item: Item) -> None:
        """Store an item; it replaces an item that was not taken."""
        with self._changed:
            self.replaced_count += self._item is not None
            self._item = item
            self._changed.notify()

    def close(self) -> None:
        """Declare that no more items will come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def take(self) -> Item | None:
        """Wait for an item and return it; return None if the slot is closed and empty."""
        with self._changed:
            while self._item is None and not self._is_closed:
                self._changed.wait()
            item, self._item = self._item, None
            return item


def draw_text(frame: Frame, predictions: list[Prediction], status: str) -> None:
    """Draw a status line, and the predictions with their scores, into a frame."""
    lines = [status, *(f"{item.score:4.0%} {escape_text(item.label)}" for item in predictions)]
    # A dark background makes the text readable.
    frame[: LINE_HEIGHT // 2 + LINE_HEIGHT * len(lines), :TEXT_WIDTH] //= 3
    for row, line in enumerate(lines):
        origin, white = (10, 26 + LINE_HEIGHT * row), (255, 255, 255)
        cv2.putText(frame, line, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.6, white, 1, cv2.LINE_AA)


def run_live(classifier: Classifier, source: str, show: ShowFrame) -> LiveStatistics:
    """Capture, classify and show frames until the source ends or `show` returns False.

    Two threads capture and classify; the calling thread draws and shows.

    Args:
        classifier: The opened model.
        source: Camera or video, as for `capture_frames`.
        show: Called with every drawn frame.
    """
    captured_slot, classified_slot = LatestSlot[CapturedFrame](), LatestSlot[ClassifiedFrame]()
    stop, errors = threading.Event(), list[BaseException]()

    def capture_all() -> None:
        for captured_frame in capture_frames(source):
            captured_slot.put(captured_frame)
            if stop.is_set():
                break

    def classify_all() -> None:
        while (item := captured_slot.take()) is not None and not stop.is_set():
            predictions = classifier.predict(item.frame, channels="bgr")
            classified_slot.put(ClassifiedFrame(item, predictions))

    threads = [
        start_thread(capture_all, captured_slot, errors),
        start_thread(classify_all, classified_slot, errors),
    ]
    start_s = time.monotonic()
    try:
        delays_ms = show_frames(classified_slot, show)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=5)
    if errors:
        raise errors[0]
    return LiveStatistics(
        shown_count=len(delays_ms),
        dropped_count=captured_slot.replaced_count + classified_slot.replaced_count,
        fps=len(delays_ms) / (time.monotonic() - start_s),
        delay_ms=median(delays_ms) if delays_ms else 0.0,
    )


def convert_file(classifier: Classifier, source: str, output: VideoFile) -> LiveStatistics:
    """Classify every frame of a video file, and write it with its predictions.

    Args:
        classifier: The opened model.
        source: Path of the video file.
        output: Receives every frame once.
    """
    delays_ms: list[float] = []
    start_s = time.monotonic()
    try:
        for captured in capture_frames(source, is_paced=False):
            predictions = classifier.predict(captured.frame, channels="bgr")
            delays_ms.append(1000 * (time.monotonic() - captured.time_s))
            draw_text(captured.frame, predictions, f"frame {len(delays_ms)}")
            output.append(captured.frame)
    except KeyboardInterrupt:
        pass  # The frames so far are a video, too.
    return LiveStatistics(
        shown_count=len(delays_ms),
        dropped_count=0,
        fps=len(delays_ms) / (time.monotonic() - start_s),
        delay_ms=median(delays_ms) if delays_ms else 0.0,
    )


def show_frames(classified: LatestSlot[ClassifiedFrame], show: ShowFrame) -> list[float]:
    """Draw and show frames until they end, `show` returns False, or the user presses Ctrl-C.

    Args:
        classified: The slot from which the frames are taken.
        show: Called with every drawn frame.

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
            may_continue = show(item.captured.frame)
            delays_ms.append(1000 * (time.monotonic() - item.captured.time_s))
            if not may_continue:
                break
    except KeyboardInterrupt:
        pass  # With --save there is no window, so Ctrl-C is the way to stop a camera.
    return delays_ms


def start_thread(
    work: Callable[[], None], output: LatestSlot[Any], errors: list[BaseException]
) -> threading.Thread:
    """Run a function in a thread.

    Args:
        work: The function.
        output: The slot into which the function puts items. It is closed when the function ends.
        errors: Receives the error of the function, if it raises one.
    """

    def run() -> None:
        try:
            work()
        except (SystemExit, Exception) as error:  # capture_frames raises SystemExit
            errors.append(error)
        finally:
            output.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="A file that tinyvit-export wrote.")
    parser.add_argument(
        "source", nargs="?", default="0", help="Number of a camera, or a video file (default: 0)."
    )
    parser.add_argument("--save", metavar="FILE", help="Write an .mp4 instead of opening a window.")
    arguments = parser.parse_args()
    source, video_file = arguments.source, None
    try:
        with Classifier(arguments.model, top_k=3) as classifier:
            if arguments.save and not is_live(source):
                video_file = VideoFile(arguments.save, read_fps(source))
                statistics = convert_file(classifier, source, video_file)
            else:
                video_file = VideoFile(arguments.save) if arguments.save else None
                show = video_file.write if video_file else show_in_window
                statistics = run_live(classifier, source, show)
    except TinyViTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if video_file:
            video_file.close()
    print(
        f"{statistics.shown_count} frames, {statistics.fps:.1f} per second;"
        f" {statistics.delay_ms:.0f} ms from capture to display (median);"
        f" {statistics.dropped_count} replaced by newer ones"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
