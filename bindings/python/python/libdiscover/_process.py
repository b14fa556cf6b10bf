"""What the library arranges with the process it is in: its log, its forks and its exit."""

from __future__ import annotations

import atexit
import logging
import os

from libdiscover import _native


def prepare() -> None:
    # Without a handler of its own, a library's warnings would be printed.
    logging.getLogger("libdiscover").addHandler(logging.NullHandler())
    os.register_at_fork(after_in_child=_native.forked)
    atexit.register(_native.leave, _native.CLOSE_TIMEOUT)
