"""Hooks of the library in its process: logging, fork and exit."""

from __future__ import annotations

import atexit
import logging
import os
import sys

from libdiscover import _native

# The child process of `multiprocessing` that closes its clients at exit.
_closing_child = 0


def install_process_hooks() -> None:
    """Installs the log handler, the fork handler and the exit handler. Called once, on import."""
    # Without a handler on the logger, `logging` would print the library's warnings.
    logging.getLogger("libdiscover").addHandler(logging.NullHandler())
    os.register_at_fork(
        before=_native.before_fork,
        after_in_parent=_native.after_fork_in_parent,
        after_in_child=_native.after_fork_in_child,
    )
    atexit.register(_native.at_exit, _native.CLOSE_TIMEOUT)


def close_at_exit_of_child() -> None:
    """Lets a child process of `multiprocessing` close its clients when it ends. It skips `atexit`."""
    global _closing_child
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _closing_child == os.getpid():
        return
    _closing_child = os.getpid()
    # Imported here: few programs use it.
    from multiprocessing import util

    util.Finalize(None, _native.at_exit, args=(_native.CLOSE_TIMEOUT,), exitpriority=0)
