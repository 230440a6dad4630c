"""What a forked process does with the sessions of the one that it was forked from.

It has them and none of their threads. Whoever waits for those waits for ever: a call, the deletion
of a session, and onnxruntime's own end of the process (pthread_cond_destroy, seen with 1.32).
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import Any
from weakref import WeakSet

_OPENED: WeakSet[Any] = WeakSet()


def survive_fork(session: Any) -> None:
    """Have processes forked from this one leave a session alone, and end when they are done."""
    _OPENED.add(session)


def _in_child() -> None:
    if not _OPENED:
        return
    for session in _OPENED:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))  # it is never deleted
    # What is registered last runs first, when Python itself has ended in order: the library's own
    # handlers are then left out. Only glibc has this function; elsewhere nothing is changed.
    with suppress(AttributeError, OSError, TypeError):
        process = ctypes.CDLL(None)
        process.on_exit(process._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
