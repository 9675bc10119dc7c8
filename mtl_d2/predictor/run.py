"""Predict many inputs and write what is asked for: one that fails does not end the others."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.images import read_image
from .inputs import Input, VideoReader
from .pictures import PanelWriter, VideoWriter, find_metadata, frame_name
from .predictor import MAX_PIXELS, Predictor
from .raw_results import RawResults

logger = logging.getLogger(__name__)

SAVE = ("panels", "raw", "video", "both")


@dataclass(frozen=True)
class Failure:
    """An input without (complete) results, and why; ``begun`` is False where all was interrupted before its turn."""

    source: str | int
    reason: str
    begun: bool = True


def predict_inputs(
    predictor: Predictor,
    inputs: Sequence[Input],
    output: Path,
    *,
    save: str | None = None,
    score_threshold: float = 0.5,
    tasks: Sequence[str] | None = None,
) -> list[Failure]:
    """Answer about each input, and write below ``output``.

    Args:
        save: "panels" into panels/, "raw" into raw/ (:class:`RawResults`), "both" of these, or "video", an mp4 with
            overlays of each video; None for panels of images and videos of videos.
        score_threshold: instances below it are not drawn; raw results have all.
        tasks: of the network; all by default.

    Returns:
        what failed; results of the others, and of the frames before a failure, are kept. An interrupt (Ctrl-C) ends a
        camera, after which the next input follows; of any other input it ends all.
    """
    run = _Run(predictor, output, save, score_threshold, tasks)
    failures: list[Failure] = []
    with ExitStack() as stack:
        if run.saves("raw"):
            stack.enter_context(closing(run.raw))
        progress = stack.enter_context(tqdm(total=len(inputs), unit="input", disable=None))
        for index, item in enumerate(inputs):
            try:
                run.predict_video(item) if item.is_video else run.predict_image(item)
            except KeyboardInterrupt:
                if not isinstance(item.source, int):
                    failures.append(Failure(item.source, f"{item.source}: interrupted"))
                    failures += [Failure(i.source, f"{i.source}: not begun", begun=False) for i in inputs[index + 1 :]]
                    break
            except Exception as error:
                logger.debug("%s", item.source, exc_info=True)
                failures.append(Failure(item.source, _explain(item, error)))
            progress.update()
    return failures


def _explain(item: Input, error: Exception) -> str:
    expected = isinstance(error, ValueError | OSError | MemoryError)
    reason = str(error) if expected else f"{type(error).__name__}: {error}"
    return reason if str(item.source) in reason else f"{item.source}: {reason}"


class _Run:
    def __init__(
        self,
        predictor: Predictor,
        output: Path,
        save: str | None,
        score_threshold: float,
        tasks: Sequence[str] | None,
    ) -> None:
        metadata = find_metadata(predictor.cfg)
        self.predictor, self.output, self.save, self.tasks = predictor, output, save, tasks
        self.metadata, self.score_threshold = metadata, score_threshold
        self.panels = PanelWriter(output / "panels", metadata, score_threshold)
        self.raw = RawResults(output / "raw", metadata)

    def saves(self, what: str, is_video: bool = False) -> bool:
        if self.save is None:
            return what == ("video" if is_video else "panels")
        return what in (("panels", "raw") if self.save == "both" else (self.save,))

    def predict_image(self, item: Input) -> None:
        if self.save == "video":
            raise ValueError(f"{item.source}: is no video, so there is no video to save; choose panels, raw or both.")
        max_pixels = 0 if self.predictor.tiling is None else MAX_PIXELS
        image = read_image(str(item.source), "BGR", max_pixels=max_pixels)
        (answer,) = self.predictor.iterate([image], self.tasks)
        self._write(item.name, item, image, answer)

    def predict_video(self, item: Input) -> None:
        reader = VideoReader(item.source)
        frames, to_predict = tee(self._frames(reader, item))  # it holds the frames of one batch
        answers = self.predictor.iterate(to_predict, self.tasks)
        path = self.output / "videos" / f"{item.name}.mp4"
        with closing(VideoWriter(path, reader.fps, self.metadata, self.score_threshold)) as video:
            for index, (answer, frame) in enumerate(zip(answers, frames, strict=False), 1):
                self._write(frame_name(item.name, index, reader.num_frames), item, frame, answer)
                if self.saves("video", is_video=True):
                    video.write(frame, answer)

    def _frames(self, reader: VideoReader, item: Input) -> Iterator[np.ndarray]:
        total = reader.num_frames or None
        yield from tqdm(reader, desc=item.name, total=total, unit="frame", leave=False, disable=None)

    def _write(self, name: str, item: Input, image: np.ndarray, answer: dict) -> None:
        if self.saves("panels", item.is_video):
            self.panels.write(name, name if item.is_video else Path(str(item.source)).name, image, answer)
        if self.saves("raw", item.is_video):
            file_name = name if item.is_video else str(item.source)
            self.raw.write(name, file_name, image.shape[:2], answer)
