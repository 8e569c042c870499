"""Captures the frames for `camera.py`, and shows them in a window or writes a video file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
"""The pixels of a frame: uint8 (height, width, 3), BGR."""

ShowFrame = Callable[[Frame], bool]
"""A function that shows a frame and returns whether another one may follow."""

DEFAULT_FPS = 25
"""Frames per second of a video file that states none, and of the saved video."""


@dataclass(frozen=True)
class CapturedFrame:
    """A frame and the time at which it was captured, in seconds of `time.monotonic()`."""

    frame: Frame
    time_s: float


def is_live(source: str) -> bool:
    """Return whether a source is a camera or a stream, not a video file."""
    return source.isdigit() or source.startswith("/dev/") or "://" in source


def read_fps(source: str) -> float:
    """Return the frames per second of a video file; `DEFAULT_FPS` if it states none."""
    capture = _open_source(source)
    try:
        return capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS
    finally:
        capture.release()


def capture_frames(source: str, is_paced: bool = True) -> Iterator[CapturedFrame]:
    """Yield frames as a camera captures them, or as fast as a video file plays.

    Args:
        source: Number or path of a camera ("0", "/dev/video0"), URL of a stream ("rtsp://...") or
            path of a video file.
        is_paced: Whether the frames of a video file come as fast as it plays. If not, each comes
            when it is requested.
    """
    capture = _open_source(source)
    interval_s = 0.0
    if is_paced and not is_live(source):
        interval_s = 1 / (capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS)
    next_frame_s = time.monotonic()
    try:
        while True:
            was_read, frame = capture.read()
            if not was_read:
                return
            # After a slow read, one frame follows without a wait; more of the lost time is not made
            # up, so that frames never come in a burst.
            next_frame_s = max(next_frame_s + interval_s, time.monotonic() - interval_s)
            time.sleep(max(0.0, next_frame_s - time.monotonic()))
            yield CapturedFrame(frame, time.monotonic())  # type: ignore[arg-type]
    finally:
        capture.release()


def _open_source(source: str) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        raise SystemExit(
            f"error: {source} cannot be opened: give a camera's number or a video that OpenCV reads"
        )
    return capture


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
    """An .mp4 file that plays at the speed of its source.

    `write` is for frames of a camera: each new frame fills the time since the previous one, and one
    that comes too early for the frame rate is left out. `append` writes each frame once.
    """

    def __init__(self, path: str, fps: float = DEFAULT_FPS) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._start_s, self._written_count = 0.0, 0

    def write(self, frame: Frame) -> bool:
        """Write a frame as often as needed; always return True, because more may follow."""
        if self._writer is None:
            self._writer = self._open(frame)
            self._start_s = time.monotonic()
        while self._written_count <= self._fps * (time.monotonic() - self._start_s):
            self._writer.write(frame)
            self._written_count += 1
        return True

    def append(self, frame: Frame) -> None:
        """Write a frame once."""
        if self._writer is None:
            self._writer = self._open(frame)
        self._writer.write(frame)

    def close(self) -> None:
        """Close the file, which makes it playable; do nothing if no frame was written."""
        if self._writer is not None:
            self._writer.release()

    def _open(self, frame: Frame) -> cv2.VideoWriter:
        """Create the file for frames of the size of `frame`."""
        height, width = frame.shape[:2]
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(self._path, codec, self._fps, (width, height))
        if not writer.isOpened():
            raise SystemExit(
                f"error: {self._path} cannot be written: give an .mp4 in a folder that exists"
            )
        return writer
