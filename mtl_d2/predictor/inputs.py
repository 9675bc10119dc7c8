"""From the words of a command to images and videos."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..data.images import BrokenSampleError

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}


@dataclass(frozen=True)
class Input:
    """An image file, a video file, or a camera.

    Attributes:
        source: a path, or the index of a camera.
        name: of the results; no two inputs of a command share it.
        is_video: whether frames are to be read from it.
    """

    source: str | int
    name: str
    is_video: bool = False


def find_inputs(words: Sequence[str]) -> list[Input]:
    """Files, the images and videos of folders (by name), globs, and camera indices.

    Raises:
        ValueError: a word stands for nothing that is there.
    """
    sources = [source for word in words for source in _find_sources(word)]
    used: set[str] = set()
    return [_named(source, used) for source in sources]


def _find_sources(word: str) -> list[str | int]:
    path = Path(word)
    if path.is_dir():
        known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
        files = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in known)
        if not files:
            raise ValueError(f"{word}: the folder has no image or video ({', '.join(sorted(known))}).")
        return list(files)
    if path.exists():
        return [word]
    if word.isdecimal():
        return [int(word)]
    if glob.has_magic(word):
        matches = sorted(match for match in glob.glob(word, recursive=True) if Path(match).is_file())
        if not matches:
            raise ValueError(f"{word}: no file matches; check the pattern and the folder that it starts from.")
        return list(matches)
    raise ValueError(f"{word}: there is no such file or folder (a camera is given by its index, such as 0).")


def _named(source: str | int, used: set[str]) -> Input:
    name = unique_name(f"camera_{source}" if isinstance(source, int) else Path(source).stem, used)
    is_video = isinstance(source, int) or Path(source).suffix.lower() in VIDEO_SUFFIXES
    return Input(source, name, is_video)


def unique_name(stem: str, used: set[str]) -> str:
    """``stem``, or with the first number that makes it another one than those in ``used``; it is among them then."""
    name, count = stem, 1
    while name in used:
        count += 1
        name = f"{stem}_{count}"
    used.add(name)
    return name


class VideoReader:
    """The frames of a video file or a camera, (H, W, 3) uint8 in BGR.

    Attributes:
        fps: frames per second, 30 where the source does not say.
        num_frames: as the file says; 0 where unknown, as of a camera.

    Raises:
        BrokenSampleError: it cannot be opened, has no frame, or ends before nine tenths of its frames.
    """

    def __init__(self, source: str | int) -> None:
        self.source = source
        self.capture = cv2.VideoCapture(source)
        if not self.capture.isOpened():
            what = f"camera {source}" if isinstance(source, int) else source
            raise BrokenSampleError(f"{what}: cannot be opened as a video; check the source, or convert the file.")
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 30.0
        self.num_frames = max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        count = 0
        try:
            while True:
                found, frame = self.capture.read()
                if not found:
                    break
                count += 1
                yield frame
        finally:
            self.capture.release()
        # Containers often state one frame more or less than there are.
        if count < max(1, 0.9 * self.num_frames):
            raise BrokenSampleError(
                f"{self.source}: the video ends after {count} of {self.num_frames} frames; convert or replace the file."
            )
