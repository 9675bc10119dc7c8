"""All checks of one dataset, in several processes."""

import functools
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import cv2
from tqdm import tqdm

from ..._orphans import end_with_parent
from ..faults import Fault
from ..schema import DatasetError, DatasetSchema
from .duplicates import SeenImage
from .record import RecordReport, check_record
from .source import open_source
from .statistics import DatasetStatistics, gather_statistics

_CHUNK = 8


@dataclass(frozen=True)
class DatasetReport:
    """What was found about a dataset.

    Attributes:
        name: in Detectron2's catalogs.
        schema: of the dataset.
        faults: all, warnings among them.
        statistics: of what can be read.
        records: that were checked.
        record_reports: of each of them.
        sound_records: those without an error, as a training reads them.
    """

    name: str
    schema: DatasetSchema
    faults: list[Fault]
    statistics: DatasetStatistics
    records: list[dict]
    record_reports: list[RecordReport]
    sound_records: list[dict]

    @property
    def errors(self) -> list[Fault]:
        """The faults that are no warnings."""
        return [fault for fault in self.faults if not fault.is_warning]

    @property
    def images(self) -> list[SeenImage]:
        """Those that can be read."""
        pairs = zip(self.records, self.record_reports, strict=True)
        return [SeenImage(self.name, r["file_name"], report.image.thumbnail) for r, report in pairs if report.image]


def check_dataset(name: str, *, jobs: int | None = None, progress: bool = False) -> DatasetReport:
    """Open and decode every file of a registered dataset, check every annotation, and measure what is there.

    Args:
        name: in Detectron2's catalogs; of a description, see ``mtl_d2.data.register_description``.
        jobs: processes that decode files; 0: this one, None: as many as there are cores.
        progress: show a bar on a terminal.

    Raises:
        DatasetError: nothing can be checked: the name is unknown, the schema wrong, or a process was killed.
    """
    source = open_source(name)
    check = functools.partial(check_record, schema=source.schema, json_file=source.json_file)
    counted = tqdm(total=len(source.records), unit="image", desc=name, disable=None if progress else True)
    reports: list[RecordReport] = []
    with counted:
        for report in _map(check, source.records, _default_jobs() if jobs is None else jobs):
            reports.append(report)
            counted.update()
    faults = [*source.faults, *(fault for report in reports for fault in report.faults)]
    statistics = gather_statistics(source.records, reports, source.schema, loaded=source.loaded)
    sound = [
        record
        for record, report in zip(source.records if source.loaded is None else source.loaded, reports, strict=True)
        if report.image and all(fault.is_warning for fault in report.faults)
    ]
    return DatasetReport(name, source.schema, _unique(faults), statistics, source.records, reports, sound)


def _unique(faults: Iterable[Fault]) -> list[Fault]:
    """Each fault once: two images may share a label file."""
    return list(dict.fromkeys(faults))


def _map(check: functools.partial, records: Sequence[dict], jobs: int) -> Iterator[RecordReport]:
    if jobs == 0 or len(records) <= _CHUNK:
        yield from map(check, records)
        return
    # Forked, as PyTorch's data loader workers are; elsewhere than on Linux a fork is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        try:
            yield from pool.map(check, records, chunksize=_CHUNK)
        except BrokenProcessPool as error:
            raise DatasetError(
                "a process that decodes images was killed, for lack of memory perhaps; use fewer jobs, or 0."
            ) from error


def _start_worker() -> None:
    cv2.setNumThreads(0)  # they do not survive a fork, and would only compete
    end_with_parent()


def _default_jobs() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
