"""Processes that end when the one that started them is gone. Standard library only."""

import multiprocessing
import multiprocessing.connection
import os
import threading


def end_with_parent() -> None:
    """End this process of ``multiprocessing`` as soon as its parent is gone, killed or not; call it once, in it.

    Without it, a worker of a pool whose parent was killed waits for its next call for ever.
    """
    threading.Thread(target=_wait_and_exit, daemon=True).start()


def _wait_and_exit() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
