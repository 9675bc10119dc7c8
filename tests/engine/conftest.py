"""Fixtures of the engine's tests."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """Undo what a run does to the loggers: they stop to propagate, and later tests could not read them."""
    loggers = [logging.getLogger(name) for name in ("mtl_d2", "detectron2", "fvcore")]
    before = [(logger.propagate, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (propagate, level, handlers) in zip(loggers, before, strict=True):
        logger.propagate, logger.level, logger.handlers = propagate, level, handlers
