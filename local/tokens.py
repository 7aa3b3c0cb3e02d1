"""A further token for the stack that `make run` runs, from its own admin function: `make token`."""

from collections.abc import Sequence
from pathlib import Path

from local import stand_ins
from local.errors import Advice, LocalError
from local.functions import REPOSITORY, Function, FunctionConfiguration, FunctionError, FunctionRaised
from local.postgres import socket_directory, url_at
from local.stack import DATABASE, TEMPLATE
from local.template import Template

ADMIN = "AdminFunction"


def issue(directory: Path, *, tenant: str, scopes: Sequence[str]) -> str:
    """A new token of `tenant`, which is created if it does not exist. Raises LocalError where no stack runs on
    `directory`, and where the function refuses the name or a scope.
    """
    admin = _admin_function(directory)
    try:
        issued: str = admin.invoke({"action": "issue_token", "tenant": tenant, "scopes": list(scopes)})["token"]
    except FunctionRaised as error:
        raise LocalError(f"No token was issued: {error}.") from error
    except FunctionError as error:
        raise LocalError(f"No token was issued: {error}. See the functions' logs.") from error
    finally:
        admin.stop()
    return issued


def _admin_function(directory: Path) -> Function:
    template = Template(TEMPLATE).functions()[ADMIN]
    sockets = socket_directory(directory / "postgres")
    if sockets is None:
        raise LocalError(f"No stack runs with {directory}.", advice=Advice.START_FIRST)
    url = url_at(sockets, user=template.variables["DATABASE_USER"], database=DATABASE)
    return Function(
        FunctionConfiguration(
            name=ADMIN,
            handler=template.handler,
            code=REPOSITORY / "src",
            log=directory / "logs" / f"{ADMIN}.log",
            timeout_seconds=template.timeout_seconds,
            variables=stand_ins.variables(template, ours={"DATABASE_URL": url}),
        ),
        concurrency=1,
    )
