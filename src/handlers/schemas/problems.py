"""Problems (RFC 9457), as the OpenAPI document describes them; handlers/problems.py makes them."""

from typing import Annotated

from msgspec import Meta, Struct


class FaultBody(Struct, frozen=True):
    """One field at fault: a JSON pointer or a header's or parameter's name, and what would be right."""

    field: Annotated[str, Meta(description="A JSON pointer, or the name of a header or a parameter")]
    detail: Annotated[str, Meta(description="What would be right")]


class ProblemBody(Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem. Some kinds carry more members, such as `delivery_id`."""

    type: Annotated[str, Meta(description="The kind of problem: what programs look at")]
    title: Annotated[str, Meta(description="Fixed for each type")]
    status: Annotated[int, Meta(description="The HTTP status of the answer")]
    detail: Annotated[str, Meta(description="For people; may change")]
    faults: Annotated[list[FaultBody], Meta(description="Of an invalid-request: the fields at fault")] = []
