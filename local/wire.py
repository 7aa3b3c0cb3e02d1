"""What goes over a database connection, statement by statement."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

from psycopg import Connection
from psycopg.pq import Trace


@contextmanager
def statements_of(connection: Connection[Any]) -> Iterator[list[str]]:
    """The statements that `connection` executes meanwhile, as libpq puts them on the wire; filled in at the end.

    It reads libpq's own trace (PQtrace), so that nothing between the code and the server can hide one. A statement is
    what is executed: preparing one counts with its execution.
    """
    found: list[str] = []
    with TemporaryFile("w+b") as file:
        connection.pgconn.trace(file.fileno())
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield found
        connection.pgconn.untrace()
        file.seek(0)
        lines = file.read().decode(errors="replace").splitlines()
    found += [line for line in lines if line.startswith("F") and re.search(r"\t(Execute|Query)\t", line)]
