"""A trained network's answers about images: files and arrays, images larger than memory, test-time augmentation."""

from .predictor import Predictor

__all__ = ["Predictor"]
