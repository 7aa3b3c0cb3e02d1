"""The authorizer: a bearer token in; a policy, a tenant and scopes out."""

from datetime import UTC, datetime

import pytest

from domain.errors import DatabaseUnavailable
from handlers import admin, authorize
from handlers.authorize import CallRefused
from tests.support.api import STAGE_ARN, Context, Functions, authorizer_event, forget_services


def test_a_good_token_opens_the_whole_stage_because_the_answer_is_cached(functions: Functions) -> None:
    answer = authorize.handler(authorizer_event(f"Bearer {functions.token}"), Context())
    (row,) = functions.sql(
        "SELECT tenant_id, token_id FROM token JOIN tenant USING (tenant_id) WHERE tenant.name = 'acme'"
    )
    assert answer == {
        "principalId": str(row["tenant_id"]),
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{STAGE_ARN}/*"}],
        },
        "context": {
            "tenant_id": str(row["tenant_id"]),
            "token_id": str(row["token_id"]),
            "scopes": "read send manage",
        },
    }


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer   {}", " Bearer {} "])
def test_the_scheme_is_read_as_rfc_7235_writes_it(functions: Functions, form: str) -> None:
    event = authorizer_event(form.format(functions.token))
    assert authorize.handler(event, Context())["context"]["scopes"] == "read send manage"


def test_the_header_s_name_may_be_in_any_case(functions: Functions) -> None:
    event = authorizer_event(None) | {"headers": {"authorization": f"Bearer {functions.token}"}}
    assert authorize.handler(event, Context())["context"]["scopes"] == "read send manage"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer spt_short",
        "Bearer spt_" + "A" * 43,
        "Bearer spt_" + "A" * 43 + "\u00e9",
        "Basic YW5uOnB3",
        "Bearer ' OR 1=1 --",
        "Bearer \x00",
    ],
)
def test_anything_else_is_unauthorized(refusing: Functions, authorization: str | None) -> None:
    with pytest.raises(CallRefused, match=r"^Unauthorized$") as refused:
        authorize.handler(authorizer_event(authorization), Context())
    assert refused.value.__suppress_context__  # Lambda logs the whole chain, for every stranger's call


@pytest.mark.parametrize(
    "form",
    [
        "Basic {}",
        "{}",
        "Bearer{}",
        "Bearer {}x",
        "Bearer x{}",
        "Bearer {} {}",
        "Bearer {},",
        "Bearer Bearer {}",
        "Token {}",
        "Bearer\t{}",
        "Bearer {}\u00e9",
    ],
)
def test_a_good_token_in_another_form_is_unauthorized(functions: Functions, form: str) -> None:
    """Everything but the form is right: only the check of the form can refuse it."""
    with pytest.raises(CallRefused, match=r"^Unauthorized$"):
        authorize.handler(authorizer_event(form.format(functions.token, functions.token)), Context())


def test_a_good_token_in_another_header_is_unauthorized(functions: Functions) -> None:
    event = authorizer_event(None) | {"headers": {"X-Authorization": f"Bearer {functions.token}"}}
    with pytest.raises(CallRefused):
        authorize.handler(event, Context())


def test_a_call_without_any_header_is_unauthorized(refusing: Functions) -> None:
    with pytest.raises(CallRefused):
        authorize.handler(authorizer_event(None) | {"headers": None}, Context())


def test_a_revoked_token_is_unauthorized(functions: Functions) -> None:
    (row,) = functions.sql("SELECT token_id FROM token JOIN tenant USING (tenant_id) WHERE tenant.name = 'acme'")
    admin.handler({"action": "revoke_token", "token_id": str(row["token_id"])}, Context())
    with pytest.raises(CallRefused):
        authorize.handler(authorizer_event(f"Bearer {functions.token}"), Context())


def test_neither_token_nor_its_hash_is_logged(functions: Functions) -> None:
    with pytest.raises(CallRefused):
        authorize.handler(authorizer_event("Bearer spt_" + "A" * 43), Context())
    authorize.handler(authorizer_event(f"Bearer {functions.token}"), Context())
    log = functions.log.getvalue()
    assert "token refused" in log
    assert "AAAA" not in log
    assert functions.token not in log


def test_the_use_of_a_token_is_noted(functions: Functions) -> None:
    before = datetime.now(UTC)
    functions.sql("UPDATE token SET last_used_at = NULL")
    authorize.handler(authorizer_event(f"Bearer {functions.token}"), Context())
    used = [
        row["last_used_at"] for row in functions.sql("SELECT last_used_at FROM token WHERE last_used_at IS NOT NULL")
    ]
    assert len(used) == 1
    assert used[0] >= before


def test_without_a_database_no_token_is_checked_and_api_gateway_answers_503(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_services()  # as a new process has none
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable):
        authorize.handler(authorizer_event(f"Bearer {functions.token}"), Context())


def test_a_connection_that_was_cut_is_made_again(functions: Functions) -> None:
    functions.cut_connections()
    assert authorize.handler(authorizer_event(f"Bearer {functions.token}"), Context())["principalId"]
