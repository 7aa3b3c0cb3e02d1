"""PATCH: a JSON merge patch (RFC 7396) of a destination as it is shown.

What the patch leads to is judged as if all of it had been sent to create a destination. Members that may only be
written stay as they are stored where the patch does not name them: so what is shown may be sent back as it is.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import fields

from domain.auth import Auth, AuthType, ClientAuthentication
from domain.destinations import ManagedDestination
from domain.errors import Fault, InvalidRequest, Malformed, Unsealable
from domain.targets import origin
from flows.destinations import Change
from handlers.parsing import made_of
from handlers.schemas.destinations import (
    JUDGED_WITH,
    STAND_INS,
    DestinationBody,
    Judge,
    Kept,
    NewDestinationBody,
    auth,
    destination_body,
    new_destination,
)

type Members = dict[str, Any]


def _holds_structs(kind: Any) -> bool:
    parts = get_args(kind)
    return any(map(_holds_structs, parts)) if parts else isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _patched(kind: Any) -> Any:
    """The type of a member in a patch: of objects, and of lists of them, what they hold is judged once it is merged."""
    annotated, *metas = get_args(kind)
    if _holds_structs(kind):
        kind = list[dict[str, Any]] if get_origin(annotated) is list else dict[str, Any]
    description = next(meta.description for meta in metas if meta.description)
    return Annotated[kind | UnsetType | None, Meta(description=description)]


DestinationPatchBody = msgspec.defstruct(
    "DestinationPatchBody",
    [(field.name, _patched(field.type), UNSET) for field in fields(NewDestinationBody)],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    namespace={"__doc__": "A JSON merge patch (RFC 7396) of what is shown: null takes a member away."},
)
READ_ONLY = frozenset(DestinationBody.__struct_fields__) - frozenset(NewDestinationBody.__struct_fields__)
GIVEN_AGAIN = "must be given again, in full: stored credentials are not sent to another scheme, host or port"

NO_URL = "must be a URL that begins with https:// or http://"
KEY_GIVEN_AGAIN = "needs its key again, or another name: stored keys do not sign for another scheme, host or port"


def change(
    patch: Members, current: ManagedDestination, *, unsealed: Callable[[], Auth], now: datetime, judge: Judge
) -> Change:
    """What a patch makes of `current`; with no members where nothing is different.

    `unsealed` returns the stored credentials; it is called only where they matter. `judge` is that of new_destination.
    Raises InvalidRequest with every fault.
    """
    shown = msgspec.to_builtins(destination_body(current))
    if patch.get("circuit_breaker", UNSET) is None:  # as where a destination is created: none, and not the usual one
        patch = {**patch, "circuit_breaker": {"enabled": False}}
    changes = without_repeats(_without_keys(patch, shown), shown)
    wanted = {name: value for name, value in changes.items() if name not in READ_ONLY}
    faults = [Fault(field=f"/{name}", detail="cannot be changed by a patch") for name in changes if name in READ_ONLY]
    moves = "base_url" in wanted and origin(str(wanted["base_url"])) != origin(current.base_url)
    if moves and not _leads_somewhere(wanted["base_url"]):  # nothing else is to be said of it
        raise InvalidRequest(*faults, Fault(field="/base_url", detail=NO_URL))
    not_again = list(_not_given_again(current, wanted)) if moves else []
    before = _writable(shown)
    if "auth" in wanted:
        before["auth"] = _auth_before(wanted["auth"], current, shown["auth"], unsealed=unsealed, may_stay=not moves)
    make = partial(
        new_destination,
        tenant_id=current.tenant_id,
        now=now,
        judge=lambda body: [fault for fault in judge(body) if fault.field.split("/")[1] in wanted],
        kept=_kept(current, wanted),
    )
    unknown = {name: value for name, value in wanted.items() if name not in NewDestinationBody.__struct_fields__}
    whole = _in_order(patch, _merged(before, wanted) | unknown)
    try:
        new = made_of(whole, NewDestinationBody, make, stand_ins=STAND_INS, judged_with=JUDGED_WITH)
    except InvalidRequest as refused:
        raise InvalidRequest(*faults, *not_again, *refused.faults) from None
    if faults or not_again:
        raise InvalidRequest(*faults, *not_again)
    return Change(new=new, members=tuple(sorted(changes)))


def without_repeats(patch: Members, shown: Mapping[str, Any]) -> Members:
    """The part of a patch that is not what is shown anyway."""
    changes: Members = {}
    for name, value in patch.items():
        before = shown.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := without_repeats(value, before):
                changes[name] = inner
        elif name not in shown or value != before or isinstance(value, bool) != isinstance(before, bool):
            changes[name] = value
    return changes


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396 section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def _merged(before: Members, wanted: Members) -> Members:
    """Raises Malformed where the patch is nested more deeply than Python can follow, which JSON's decoder reads."""
    try:
        result: Members = merged(before, wanted)
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error
    return result


def _leads_somewhere(url: object) -> bool:
    scheme, host, _ = (origin(url) if isinstance(url, str) else None) or ("", None, None)
    return scheme in ("http", "https") and bool(host)


def _not_given_again(current: ManagedDestination, wanted: Members) -> Iterator[Fault]:
    """What must not stay as it is stored where the base URL moves. With a certificate a token endpoint may give out
    access tokens, which would then be sent to the new place. Who gets requests that are signed may send them on to the
    partner, which takes them for ours."""
    stored = {
        "auth": current.auth_type is not AuthType.NONE,
        "client_certificate": current.sealed_certificate is not None,
        "signing": current.sealed_signing is not None,
    }
    for name, is_stored in stored.items():
        if is_stored and name not in wanted:
            yield Fault(field=f"/{name}", detail=GIVEN_AGAIN)
    known = {one.name for one in current.options.signing or ()}
    schemes = wanted.get("signing")
    for position, scheme in enumerate(schemes if isinstance(schemes, list) else ()):
        if scheme.get("name", scheme.get("type")) in known and not scheme.keys() & {"secret", "private_key"}:
            yield Fault(field=f"/signing/{position}", detail=KEY_GIVEN_AGAIN)


def _writable(shown: Mapping[str, Any]) -> Members:
    """What could have been sent to create it, but for what may only be written: null stands for what was not given."""
    hidden = READ_ONLY | {"auth", "client_certificate"}
    writable = {
        name: _without_nulls(value) for name, value in shown.items() if name not in hidden and value is not None
    }
    schemes = [{name: value for name, value in scheme.items() if name != "keys"} for scheme in writable["signing"]]
    return writable | {"signing": schemes}


def _without_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
        case list():
            return [_without_nulls(inner) for inner in value]
        case _:
            return value


def _without_keys(patch: Members, shown: Mapping[str, Any]) -> Members:
    """Of schemes to sign with, the keys are shown and cannot be sent: without them, where they are those that are
    shown of the scheme."""
    schemes = patch.get("signing")
    if not isinstance(schemes, list) or schemes == shown["signing"]:
        return patch
    keys = {scheme["name"]: scheme["keys"] for scheme in shown["signing"]}
    return {**patch, "signing": [_without_those(scheme, keys) for scheme in schemes]}


def _without_those(scheme: Any, keys: Mapping[str, Any]) -> Any:
    if not isinstance(scheme, dict) or scheme.get("keys", UNSET) != keys.get(str(scheme.get("name")), None):
        return scheme
    return {name: value for name, value in scheme.items() if name != "keys"}


def _auth_before(
    changes: Any, current: ManagedDestination, shown: Members, *, unsealed: Callable[[], Auth], may_stay: bool
) -> Members | None:
    """What a change of the credentials applies to: the stored ones, unless it brings another kind of them; without
    their secrets where these must not stay, or cannot be unsealed."""
    if not isinstance(changes, dict) or "type" in changes:
        return None
    token_url = changes.get("token_url", shown.get("token_url"))
    elsewhere = origin(str(token_url)) != origin(str(shown.get("token_url")))
    kind = {"type": shown["type"]}
    public = kind if current.auth_type is AuthType.HEADER else shown
    try:
        before = public if elsewhere or not may_stay else auth.whole(unsealed())
    except Unsealable:
        before = public  # the key is lost; all of them can be given again
    return kind if "headers" in changes else before


def _kept(current: ManagedDestination, wanted: Members) -> Kept:
    """What the patch leaves as it is of what may only be written."""
    names = current.options.header_names or ("authorization",)
    has_auth = "auth" not in wanted and current.auth_type is not AuthType.NONE
    oauth = current.options.oauth if has_auth else None
    return Kept(
        needs_certificate=oauth is not None and oauth.client_authentication is ClientAuthentication.TLS_CLIENT_AUTH,
        header_names=frozenset(name.lower() for name in names) if has_auth else frozenset(),
        has_certificate="client_certificate" not in wanted and current.sealed_certificate is not None,
    )


def _in_order(patch: Members, whole: Members) -> Members:
    """Members of the patch first and in their order, since faults name unknown ones by their position."""
    first = {name: whole[name] for name in patch if name in whole}
    return first | whole
