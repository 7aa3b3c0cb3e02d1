"""How large an answer may be."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.answers import LAMBDA_ANSWER_BYTES, fits, fitting, weight


@settings(derandomize=True, max_examples=100)
@given(st.text(max_size=50))
def test_the_weight_is_that_of_the_body_as_a_string_in_json(text: str) -> None:
    body = {"body": text}
    in_lambdas_answer = json.dumps(msgspec.json.encode(body).decode(), ensure_ascii=False).encode()
    assert weight(body) + 2 == len(in_lambdas_answer)


@pytest.mark.parametrize(
    ("character", "bytes_each"), [("x", 1), ('"', 2), ("\\", 2), ("\n", 2), ("\x01", 6), ("\u00e9", 2), ("\u20ac", 3)]
)
def test_an_answer_fits_up_to_the_last_byte(character: str, bytes_each: int) -> None:
    around = len(json.dumps({"body": ""}))
    most, rest = divmod(LAMBDA_ANSWER_BYTES - around, bytes_each)
    assert fits({"body": character * most + "x" * rest})
    assert not fits({"body": character * most + "x" * (rest + 1)})


def test_the_limit_is_the_one_that_lambda_s_own_error_names() -> None:
    """ "Exceeded maximum allowed payload size (6291556 bytes)": the other tests here take the number from the code."""
    around = len(json.dumps({"body": ""}))
    assert fits({"body": "x" * (6_291_556 - around)})
    assert not fits({"body": "x" * (6_291_557 - around)})


def test_what_has_no_body_fits() -> None:
    assert fits({"body": None})
    assert fits({})


def test_as_many_items_fit_as_there_is_room_for() -> None:
    items = ["a", "bb", "ccc"]  # five, six and seven bytes with their escaped quotes, and a comma each
    assert [weight(element) for element in items] == [5, 6, 7]
    for room_bytes, shown in ((5, 0), (6, 1), (12, 1), (13, 2), (20, 2), (21, 3), (99, 3)):
        assert fitting(items, room_bytes=room_bytes) == items[:shown]
    assert fitting(items) == items


def test_a_body_that_is_surely_small_is_not_measured() -> None:
    nobody_can_encode_this = object()
    assert fits({"body": "x" * 250_000, "multiValueHeaders": nobody_can_encode_this})
    with pytest.raises(TypeError):
        fits({"body": "x" * 250_001, "multiValueHeaders": nobody_can_encode_this})
