"""Keys that replace each other: who signs when, and what is gone afterwards."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.signing import (
    DetachedJws,
    Form,
    JwsAlgorithm,
    MessageAlgorithm,
    MessageSignatures,
    Scheme,
    StandardWebhooks,
    TemplatedHmac,
    WebhookVersion,
    algorithm_of,
    carries_several,
    label_fault,
    member_faults,
    rotated,
    scheme,
    shares_headers,
    signing_keys,
    signs_from,
    unexpired,
    value_fault,
    written_headers,
)
from tests.support.signing import AT, key_info, one_key

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SEVERAL, SINGLE = StandardWebhooks(), TemplatedHmac(header="X-Sig")


def refs(of: Scheme) -> list[str]:
    return [key.ref for key in of.keys]


def test_the_old_key_signs_until_the_overlap_is_over() -> None:
    both = rotated(one_key(SEVERAL), key_info("new"), now=AT, overlap=DAY)
    assert [(key.ref, key.expires_at) for key in both.keys] == [("new", None), ("k", AT + DAY)]
    assert [key.ref for key in signing_keys(both, now=AT + DAY - HOUR)] == ["new", "k"]
    assert [key.ref for key in signing_keys(both, now=AT + DAY)] == ["new"]
    assert refs(unexpired(both, now=AT + DAY)) == ["new"]


def test_without_an_overlap_every_earlier_key_is_gone_at_once() -> None:
    both = rotated(one_key(SEVERAL), key_info("second"), now=AT, overlap=DAY)
    assert refs(rotated(both, key_info("third"), now=AT + HOUR, overlap=timedelta())) == ["third"]


def test_a_second_rotation_keeps_the_key_that_the_partner_knows_and_lengthens_nothing() -> None:
    both = rotated(one_key(SEVERAL), key_info("second"), now=AT, overlap=HOUR)
    three = rotated(both, key_info("third"), now=AT + HOUR / 2, overlap=DAY)
    assert [(key.ref, key.expires_at) for key in three.keys] == [
        ("third", None),
        ("second", AT + HOUR / 2 + DAY),
        ("k", AT + HOUR),
    ]


def test_a_scheme_of_one_signature_changes_to_the_next_key_when_the_overlap_is_over() -> None:
    both = rotated(one_key(SINGLE), key_info("new"), now=AT, overlap=DAY)
    assert [key.ref for key in signing_keys(both, now=AT)] == ["k"]
    assert [key.ref for key in signing_keys(both, now=AT + DAY)] == ["new"]
    assert [signs_from(both, key) for key in both.keys] == [AT + DAY, AT]


def test_in_a_scheme_of_several_signatures_a_key_signs_from_its_creation() -> None:
    both = rotated(one_key(SEVERAL), key_info("new", created_at=AT + HOUR), now=AT + HOUR, overlap=DAY)
    assert [signs_from(both, key) for key in both.keys] == [AT + HOUR, AT]


@given(steps=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=6), single=st.booleans())
def test_at_every_moment_somebody_signs(steps: list[tuple[int, int]], single: bool) -> None:
    now, current = AT, one_key(SINGLE if single else SEVERAL)
    for at, (wait_hours, overlap_hours) in enumerate(steps):
        now += wait_hours * HOUR
        current = rotated(current, key_info(str(at), created_at=now), now=now, overlap=overlap_hours * HOUR)
        for hours in (0, 1, overlap_hours, 1000):
            keys = signing_keys(current, now=now + hours * HOUR)
            assert len(keys) == 1 or (keys and not single)
            assert all(key.expires_at is None or key.expires_at > now + hours * HOUR for key in keys)
            assert all(signs_from(current, key) <= now + hours * HOUR for key in keys)


@pytest.mark.parametrize(
    ("form", "several"),
    [
        (StandardWebhooks(), True),
        (MessageSignatures(algorithm=MessageAlgorithm.ED25519, components=()), True),
        (TemplatedHmac(header="X", repeat=",v1={signature}"), True),
        (TemplatedHmac(header="X"), False),
        (DetachedJws(algorithm=JwsAlgorithm.PS256, header="X"), False),
    ],
)
def test_which_schemes_carry_several_signatures(form: Form, several: bool) -> None:
    assert carries_several(form) is several


def test_two_schemes_share_headers_only_where_each_has_an_entry_of_its_own() -> None:
    a = MessageSignatures(algorithm=MessageAlgorithm.ED25519, components=(), label="a")
    v1a = StandardWebhooks(version=WebhookVersion.V1A)
    assert shares_headers(StandardWebhooks(), v1a)
    assert not shares_headers(v1a, v1a)
    assert shares_headers(a, replace(a, label="b"))
    assert shares_headers(a, replace(a, label="ab"))
    assert not shares_headers(a, a)
    assert not shares_headers(a, replace(a, label="a-2"))
    assert not shares_headers(replace(a, label="a-2"), a)
    assert not shares_headers(SINGLE, SINGLE)


def test_which_headers_a_scheme_writes() -> None:
    covering = MessageSignatures(
        algorithm=MessageAlgorithm.ED25519, components=("@method",), components_if_present=("content-digest",)
    )
    assert written_headers(StandardWebhooks()) == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert written_headers(covering) == {"signature-input", "signature", "content-digest"}
    assert written_headers(replace(covering, components_if_present=())) == {"signature-input", "signature"}
    assert written_headers(TemplatedHmac(header="X-A", timestamp_header="X-T")) == {"x-a", "x-t"}
    assert written_headers(DetachedJws(algorithm=JwsAlgorithm.ES256, header="X-J")) == {"x-j"}


def test_a_scheme_has_exactly_one_form() -> None:
    for form in (SEVERAL, SINGLE, DetachedJws(algorithm=JwsAlgorithm.ES256, header="X")):
        assert scheme(form, name="s", keys=[]).form == form
    with pytest.raises(ValueError, match="must have a form"):
        _ = Scheme(name="s", keys=()).form


def test_algorithms_have_the_names_of_their_specifications() -> None:
    assert algorithm_of(StandardWebhooks()) == "v1"
    assert algorithm_of(SINGLE) == "sha256"
    assert algorithm_of(DetachedJws(algorithm=JwsAlgorithm.EDDSA, header="X")) == "EdDSA"


@pytest.mark.parametrize("label", ["sig1", "*", "a-_.*9", "a" * 63])
def test_a_label_is_the_key_of_a_dictionary(label: str) -> None:
    assert label_fault(label) is None


@pytest.mark.parametrize("label", ["", "Sig", "1a", "a b", "a" * 64, "a\n", "-a"])
def test_any_other_label_is_refused(label: str) -> None:
    assert label_fault(label) is not None


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("t={timestamp}", "must contain {signature}"),
        ("{signature}\n", "must be ASCII without control characters"),
        ("{signature}\u00e9", "must be ASCII without control characters"),
        ("{signature}{body}", "has a field that is unknown;"),
    ],
)
def test_what_cannot_be_the_value_of_a_header(template: str, fault: str) -> None:
    assert (value_fault(template) or "").startswith(fault)


def test_what_is_wrong_with_the_members_of_a_jws_is_said_of_each() -> None:
    members = {"alg": "none", "b64": False, "a/b~c": "{body}", "http://x/iat": "{timestamp}", "n": 1}
    faults = dict(member_faults(members, ["http://x/iat", "exp", "b64", "kid"]))
    assert set(faults) == {
        "/members/alg",
        "/members/b64",
        "/members",
        "/critical/1",
        "/critical/2",
        "/critical/3",
    }
    assert faults["/members"].startswith("member 3 has a field that is unknown; the fields are ")
