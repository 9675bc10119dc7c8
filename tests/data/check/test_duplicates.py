import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_d2.data.check import near_duplicates
from mtl_d2.data.check.duplicates import SeenImage, perceptual_hash, relative_difference


def scene(seed, size=200):
    """Blobs of light, as a photograph has: no noise that a smaller size would hide."""
    image = np.random.default_rng(seed).uniform(0, 255, (7, 9)).astype(np.float32)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def seen(pixels, name, dataset="a"):
    return SeenImage(dataset, name, cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA))


def compressed(pixels):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p,
        compressed,
        lambda p: cv2.resize(p, (90, 90), interpolation=cv2.INTER_AREA),
        lambda p: (p * 0.95).astype(np.uint8),
        lambda p: np.asarray(Image.fromarray(p).resize((320, 240))),
    ],
)
def test_a_copy_is_found_whatever_was_done_to_it(change):
    images = [seen(scene(i), f"{i}.png") for i in range(300)]
    images.append(seen(change(scene(17)), "copy.png", "b"))
    (fault,) = near_duplicates(images)
    assert fault.file == "17.png" and fault.is_warning and fault.kind == "duplicate_across"
    assert "copy.png of dataset 'b'" in fault.found


def test_within_a_dataset_the_warning_says_so():
    (fault,) = near_duplicates([seen(scene(1), "1.png"), seen(scene(1), "2.png"), seen(scene(3), "3.png")])
    assert fault.kind == "duplicate_within" and "one if they are the same" in fault.fix


def test_the_hash_proposes_but_the_pixels_decide():
    pixels = seen(scene(1), "1.png").thumbnail
    fainter = (pixels // 3 + 60).astype(np.uint8)  # the same frequencies above their median
    assert np.unpackbits(perceptual_hash(pixels) ^ perceptual_hash(fainter)).sum() <= 4
    assert relative_difference(pixels, pixels) == 0 and relative_difference(pixels, fainter) > 0.5
    assert near_duplicates([SeenImage("a", "1.png", pixels), SeenImage("a", "2.png", fainter)]) == []


def test_blank_images_are_no_duplicates_and_no_image_is_no_pair():
    assert near_duplicates([seen(np.zeros((40, 40), np.uint8), f"{i}.png") for i in range(3)]) == []
    assert near_duplicates([]) == []
