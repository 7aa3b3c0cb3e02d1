"""moto in the process of the tests, beside a local stack whose queues moto keeps in the same process.

moto's own `mock_aws` forgets everything that moto has, so a stack that other tests share would lose its queues.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto import mock_aws  # noqa: TID251 - the one place
from moto.core.base_backend import BackendDict

OF_LOCAL_STACKS = frozenset({"sqs", "ssm"})


@contextmanager
def mocked_aws() -> Iterator[None]:
    """AWS answers from moto, which begins and ends empty. What local stacks have of it (OF_LOCAL_STACKS) stays."""
    mock = mock_aws()
    _forget()
    mock.start(reset=False)
    try:
        yield
    finally:
        mock.stop(remove_data=False)
        _forget()


def _forget() -> None:
    known: list[BackendDict[Any]] = getattr(BackendDict, "_instances")  # noqa: B009 - typed as ambiguous by moto
    for backends in list(known):
        if backends.service_name not in OF_LOCAL_STACKS:
            for backend in backends.values():
                backend.reset()
            backends.clear()
            known.remove(backends)
