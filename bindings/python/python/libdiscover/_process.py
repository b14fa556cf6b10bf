"""Hooks of the library in its process: logging, fork and exit."""

from __future__ import annotations

import atexit
import logging
import os

from libdiscover import _native


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
