"""The tasks and classes of toy data."""

from collections.abc import Sequence

ALL_TASKS = ("instance", "sem_seg", "edge")
TOY_THING_CLASSES = ("box", "bar")
# Background, the two things again as semantic classes, and a strip of "sky" along the top.
TOY_STUFF_CLASSES = ("ground", "box", "bar", "sky")
TOY_STUFF_IDS = (0, 3)
TOY_KEYPOINTS = ("top_left", "top_right", "middle")
TOY_SIGMAS = (0.1, 0.1, 0.1)


def per_image(tasks: Sequence[str] | Sequence[Sequence[str]], num_images: int) -> list[tuple[str, ...]]:
    """``tasks`` of each image, given once for all of them or one sequence each."""
    if all(isinstance(task, str) for task in tasks):
        return [tuple(tasks)] * num_images  # type: ignore[arg-type]
    if len(tasks) != num_images:
        raise ValueError(f"Found labels for {len(tasks)} images, expected one for each of {num_images}.")
    return [tuple(labelled) for labelled in tasks]
