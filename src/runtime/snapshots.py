"""SnapStart: Lambda initialises a function once, keeps a snapshot of its memory, and starts from that.

What was made before the snapshot then exists in every process that is restored from it, some of them days later: open
connections whose other end is gone, credentials that expired, and the same state of every random generator. Modules
whose processes may be restored register here what resets them.
"""

from collections.abc import Callable

try:
    from snapshot_restore_py import register_after_restore as _register
except ImportError:  # only Lambda's own runtime has the library, and only there are snapshots made
    _register = None


def after_restore(action: Callable[[], None]) -> None:
    """Runs `action` after each restore, before the first event. Where there are no snapshots, nothing happens.

    Lambda gives all actions together ten seconds (AWS Lambda developer guide, "Lambda SnapStart runtime hooks for
    Python").
    """
    if _register is not None:
        _register(action)
