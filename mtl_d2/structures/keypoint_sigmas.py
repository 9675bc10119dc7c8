"""The tolerances by which keypoints are scored."""

from collections.abc import Sequence

COCO_KEYPOINTS = 17  # of a person, for which COCO's evaluation has sigmas


def check_sigmas(sigmas: Sequence[float], num_keypoints: int, dataset_name: str) -> None:
    """Raise ValueError unless there is one above 0 for each keypoint, or none for as many as COCO has."""
    if not sigmas and num_keypoints == COCO_KEYPOINTS:
        return
    if len(sigmas) != num_keypoints or not all(sigma > 0 for sigma in sigmas):
        raise ValueError(
            f"TEST.KEYPOINT_OKS_SIGMAS: found {list(sigmas)}, expected a number above 0 for each of {num_keypoints} "
            f"keypoints of dataset '{dataset_name}'; those of COCO's persons are 0.025 (eyes) to 0.107 (hips)."
        )
