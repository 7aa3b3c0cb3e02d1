"""SnapStart: Lambda initialises a function once, keeps a snapshot of its memory, and starts from that.

What was made before the snapshot then exists in every process that is restored from it, some of them days later: open
connections whose other end is gone, credentials that expired, and the same state of every random generator. Modules
whose processes may be restored register here what resets them, and what is to be done before the snapshot already.
"""

from collections.abc import Callable

try:
    import snapshot_restore_py as _hooks
except ImportError:  # only Lambda's own runtime has the library, and only there are snapshots made
    _hooks = None


def after_restore(action: Callable[[], None]) -> None:
    """Runs `action` after each restore, before the first event. Where there are no snapshots, nothing happens.

    Lambda gives all actions together ten seconds (AWS Lambda developer guide, "Lambda SnapStart runtime hooks for
    Python").
    """
    if _hooks is not None:
        _hooks.register_after_restore(action)


def before_snapshot(action: Callable[[], object]) -> None:
    """Runs `action` before the snapshot is made. Where there are no snapshots, nothing happens."""
    if _hooks is not None:
        _hooks.register_before_snapshot(action)
