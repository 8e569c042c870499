"""Classify a camera or a video live: capture, classify and draw side by side, always of the newest frame.

    python examples/camera/camera.py demo.onnx               # the first camera, in a window; q ends it
    python examples/camera/camera.py demo.onnx video.mp4     # a file, at its own speed
    python examples/camera/camera.py demo.onnx video.mp4 --save drawn.mp4

Needs pip install opencv-python (opencv-python-headless where there is no screen).
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


@dataclass(frozen=True)
class Shot:
    """A frame, (height, width, 3) BGR, and when it was there, in seconds of time.monotonic()."""

    frame: Frame
    at: float


@dataclass(frozen=True)
class Answer:
    """A shot, and what it shows, best first."""

    shot: Shot
    best: list[Prediction]


One = TypeVar("One")


class Newest(Generic[One]):
    """Room for one thing between two stages: putting another replaces it, so that nobody who takes ever gets a stale one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._one: One | None = None
        self._closed = False
        self.replaced = 0

    def put(self, one: One) -> None:
        """Leave one, over that which nobody took."""
        with self._changed:
            self.replaced += self._one is not None
            self._one = one
            self._changed.notify()

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self) -> One | None:
        """The newest, once there is one that was not taken; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._one is not None or self._closed)
            one, self._one = self._one, None
            return one


def shots(source: str) -> Iterator[Shot]:
    """Frames of a camera ("0", "/dev/video0") or a stream ("rtsp://...") as they come, of a file at the speed that it says (25 a second
    where it says none)."""
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        raise SystemExit(
            f"error: {source} cannot be opened: give a camera's number or a video that OpenCV reads"
        )
    live = source.isdigit() or source.startswith("/dev/") or "://" in source
    pause = 0.0 if live else 1 / (capture.get(cv2.CAP_PROP_FPS) or 25)
    due = time.monotonic()
    try:
        while True:
            found, frame = capture.read()
            if not found:
                return
            due = max(due + pause, time.monotonic() - pause)
            time.sleep(max(0.0, due - time.monotonic()))
            yield Shot(frame, time.monotonic())  # type: ignore[arg-type]
    finally:
        capture.release()


def draw(frame: Frame, best: list[Prediction], line: str) -> None:
    """Write labels, scores and a line of figures into the frame."""
    texts = [line, *(f"{one.score:4.0%} {one.label}" for one in best)]
    frame[: 12 + 24 * len(texts), :400] //= 3  # dark behind the text
    for i, text in enumerate(texts):
        cv2.putText(
            frame,
            text,
            (10, 26 + 24 * i),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.6,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )


def loop(classifier: Classifier, source: str, show: Callable[[Frame], bool]) -> dict[str, float]:
    """Capture, classify, and draw and show, each beside the others, until the source ends or `show` says False. Returns frames, dropped,
    fps and delay_ms (the median from a frame's capture to when it was shown)."""
    captured, answered = Newest[Shot](), Newest[Answer]()
    stop, failed = threading.Event(), list[BaseException]()

    def capture() -> None:
        for shot in shots(source):
            captured.put(shot)
            if stop.is_set():
                break

    def classify() -> None:
        while (shot := captured.take()) is not None and not stop.is_set():
            answered.put(Answer(shot, classifier.predict(shot.frame, channels="bgr")))

    stages = [stage(capture, captured, failed), stage(classify, answered, failed)]
    delays: list[float] = []
    start = time.monotonic()
    try:
        while (answer := answered.take()) is not None:
            fps = (len(delays) + 1) / (time.monotonic() - start)
            draw(
                answer.shot.frame,
                answer.best,
                f"{fps:.1f} frames a second, {1000 * (time.monotonic() - answer.shot.at):.0f} ms behind",
            )
            wanted = show(answer.shot.frame)
            delays.append(1000 * (time.monotonic() - answer.shot.at))
            if not wanted:
                break
    except KeyboardInterrupt:
        pass  # which ends a camera that is saved
    finally:
        stop.set()
        for each in stages:
            each.join(timeout=5)
    if failed:
        raise failed[0]
    seconds, dropped = time.monotonic() - start, captured.replaced + answered.replaced
    return {
        "frames": len(delays),
        "dropped": dropped,
        "fps": len(delays) / seconds,
        "delay_ms": median(delays) if delays else 0.0,
    }


def stage(
    work: Callable[[], None], into: Newest[Any], failed: list[BaseException]
) -> threading.Thread:
    """A thread that does `work`, notes what it fails with, and closes what it puts its results into."""

    def run() -> None:
        try:
            work()
        except (SystemExit, Exception) as error:
            failed.append(error)
        finally:
            into.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class Window:
    """Shows frames on the screen; False once q is pressed."""

    def __call__(self, frame: Frame) -> bool:
        """Show one."""
        try:
            cv2.imshow("TinyViT", frame)
        except cv2.error as error:
            raise SystemExit(
                "error: OpenCV has no window here: give --save FILE, or install opencv-python"
            ) from error
        return cv2.waitKey(1) != ord("q")


class Saved:
    """Writes frames into an .mp4 of 25 a second that plays as fast as they came: some more than once, or not at all."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writer: cv2.VideoWriter | None = None
        self._start, self._written = 0.0, 0

    def __call__(self, frame: Frame) -> bool:
        """Write one."""
        if self._writer is None:
            self._writer = cv2.VideoWriter(
                self._path, cv2.VideoWriter.fourcc(*"mp4v"), 25, (frame.shape[1], frame.shape[0])
            )
            if not self._writer.isOpened():
                raise SystemExit(
                    f"error: {self._path} cannot be written: give an .mp4 in a folder that exists"
                )
            self._start = time.monotonic()
        while self._written <= 25 * (time.monotonic() - self._start):
            self._writer.write(frame)
            self._written += 1
        return True

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def main() -> int:
    """The command; returns its exit code."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("model", help="a file that tinyvit-export wrote")
    asked.add_argument(
        "source", nargs="?", default="0", help="a camera's number or a video; default 0"
    )
    asked.add_argument("--save", metavar="FILE", help="write an .mp4 instead of opening a window")
    args = asked.parse_args()
    show = Saved(args.save) if args.save else Window()
    try:
        with Classifier(args.model, top_k=3) as classifier:
            figures = loop(classifier, args.source, show)
    except TinyViTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if isinstance(show, Saved):
            show.close()
    said = "{frames} frames, {fps:.1f} a second; {delay_ms:.0f} ms from capture to picture (median); {dropped} replaced by newer ones"
    print(said.format(**figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
