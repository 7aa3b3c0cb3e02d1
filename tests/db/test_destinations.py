"""What the schema says of destinations."""

from uuid import uuid4

import pytest

from domain.auth import AuthType
from domain.errors import NameTaken, StatementRefused
from domain.ids import TenantId
from tests.support.gateway import Gateway


def test_a_name_is_taken_once_per_tenant(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    with pytest.raises(NameTaken, match="of that name already"):
        gateway.destination("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("overrides", "constraint"),
    [
        ({"tenant_id": TenantId(uuid4())}, "destination_tenant_exists"),
        ({"auth_type": AuthType.BEARER}, "destination_credentials_sealed"),
        ({"name": "Not A Name"}, "destination_name_form"),
    ],
)
def test_what_cannot_be_is_refused_by_name(gateway: Gateway, overrides: dict[str, object], constraint: str) -> None:
    with pytest.raises(StatementRefused) as caught:
        gateway.destination("http://127.0.0.1:1", **overrides)
    assert caught.value.constraint == constraint
