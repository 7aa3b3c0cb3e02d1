"""docs/access.md says who may do what, as it is."""

import psycopg

from stack.render import render
from tests.support.databases import FreshDatabase
from tools.access import EVERYTHING, PAGE, ROOT, grants_of, page


def test_the_page_says_who_may_do_what(shared_database: FreshDatabase) -> None:
    with psycopg.connect(shared_database.admin_url) as connection:
        grants = grants_of(connection)
    assert page(render(EVERYTHING), grants) == (ROOT / PAGE).read_text(encoding="utf-8"), "run make access"


def test_a_right_of_one_column_names_the_column(shared_database: FreshDatabase) -> None:
    with psycopg.connect(shared_database.admin_url) as connection:
        grants = grants_of(connection)
    assert ("sallyport_admin", "tenant", "UPDATE (approvals_above, name)") in grants
    assert ("sallyport_app", "delivery", "UPDATE") in grants


def test_a_role_that_gets_a_right_is_another_page() -> None:
    rendered = render(EVERYTHING)
    role = rendered.resources["AdminRole"]
    role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].append(
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    )
    assert "| `AdminRole` | `lambda.amazonaws.com` | `s3:GetObject` | `*` |" in page(rendered, ())
