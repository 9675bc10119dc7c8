"""How much memory answers at full resolution take."""

from collections.abc import Collection

from .network_input import Size

GIB = 2**30


def answer_bytes(size: Size, tasks: Collection[str], *, num_sem_classes: int, num_instances: int) -> int:
    """Bytes of the answers about one image of H x W pixels in the form of ``MultiTaskFPN.inference``.

    H * W * (4 K for logits + R for masks + 4 for edges + 4 for the panoptic map), of those that are asked for.

    Args:
        num_sem_classes: K.
        num_instances: R, 0 for a network without masks.
    """
    per_pixel = 0
    if "sem_seg" in tasks:
        per_pixel += 4 * num_sem_classes
    if {"instance", "keypoint"} & set(tasks):  # keypoints come with the instances' masks
        per_pixel += num_instances
    if "edge" in tasks:
        per_pixel += 4
    if {"instance", "sem_seg"} <= set(tasks) and num_instances:
        per_pixel += 4
    return size[0] * size[1] * per_pixel


def check_whole(size: Size, needed: int, limit: int) -> None:
    """Raise MemoryError where an image is too large to be answered about as a whole."""
    if needed > limit:
        raise MemoryError(
            f"an image of {size[0]} x {size[1]} pixels (height x width) needs {needed / GIB:.1f} GiB for its answers "
            f"alone, above the limit of {limit / GIB:.1f} GiB (memory_limit): predict in tiles (such as tile=1024), "
            "ask for fewer tasks, or raise the limit."
        )
