"""The preflight as a table, and what is created if you agree."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stack.preflight.checks import RDS_ROLE, Question, findings
from stack.preflight.reader import PreflightFinding, PreflightVerdict

RDS_SERVICE = "rds.amazonaws.com"


def preflight(question: Question, console: Console, ask: Callable[[str], bool] | None) -> bool:
    """Whether a deployment may go on, after a table of all looks.

    `ask` returns whether the answer was yes; None asks nothing and creates nothing.
    """
    found = list(findings(question))
    console.print(table(f"Before the deployment of {question.stack}", found))
    stopped = [finding.subject for finding in found if finding.verdict is PreflightVerdict.STOP]
    missing = [finding.subject for finding in found if finding.verdict is PreflightVerdict.CREATE]
    if ask and missing and not stopped and not _create_role(question, console, ask):
        stopped = missing
    words = f"Stopped by: {', '.join(stopped)}" if stopped else "Nothing stands in the way of a deployment"
    console.print(words, markup=False, highlight=False, soft_wrap=True)
    return not stopped


def table(title: str, found: Sequence[PreflightFinding]) -> Table:
    """The findings, one a row."""
    table = Table(title=title)
    for head in ("Looked at", "", "Found", "What to do"):
        table.add_column(head, overflow="fold")
    for finding in found:
        table.add_row(*map(escape, (finding.subject, finding.verdict, finding.found, finding.advice)))
    return table


def _create_role(question: Question, console: Console, ask: Callable[[str], bool]) -> bool:
    if not ask(f"Create the role {RDS_ROLE}, which RDS needs in every account?"):
        return False
    iam = question.reader.session.client("iam", region_name=question.reader.region)
    iam.create_service_linked_role(AWSServiceName=RDS_SERVICE)
    console.print(f"Created: the role {RDS_ROLE}", markup=False, highlight=False)
    return True
