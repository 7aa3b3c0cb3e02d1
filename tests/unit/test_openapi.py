"""The OpenAPI document says what the routes are."""

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from openapi_spec_validator import validate
from referencing import Registry

from domain.auth import AuthType
from domain.checks import CheckStatus
from domain.deliveries import State, WaitingFor
from domain.destinations import DestinationState, Guarantee
from domain.outcomes import Answered, Outcome, OutcomeKind, Refused, Unknown, Unreachable, outcome_kind
from handlers.descriptions import ALL_TITLES, ALWAYS, KINDS, WITH_TOKEN
from handlers.openapi import document
from handlers.problems import CONTENT_TYPE, TYPE_PREFIX
from handlers.routes import every_operation
from runtime.version import VERSION
from tests.support.contract import must_conform
from tools.openapi import NOTES, ROOT, notes

ANY = "*/*"
SECRETS = {
    *("token", "username", "password", "value", "secret_access_key", "session_token"),
    *("client_secret", "private_key", "passphrase", "key", "certificate"),
}
OTHERS_IDS = {"client_id", "key_id", "access_key_id"}  # the partner's or AWS's


@pytest.fixture
def described() -> dict[str, Any]:
    return document(server="/dev")


def test_the_contract_is_the_one_that_was_noted() -> None:
    """Every operation and every component but the texts for people, so that none changes by accident."""
    noted = set((ROOT / NOTES).read_text(encoding="utf-8").splitlines())
    changed = sorted(noted ^ set(notes(document(server="")).splitlines()))
    assert not changed, f"if the contract is to change, run make openapi and write it to CHANGELOG.md: {changed}"


def test_another_value_changes_the_notes_and_another_word_does_not(described: dict[str, Any]) -> None:
    before = notes(described)
    described["paths"]["/healthz"]["get"]["responses"]["200"]["description"] = "It is running"
    assert notes(described) == before
    described["paths"]["/healthz"]["get"]["responses"]["204"] = {"description": "It is not"}
    described["components"]["schemas"]["HealthBody"]["properties"]["status"]["type"] = "integer"
    after = notes(described)
    changed = {line.rpartition(" ")[0] for line in set(before.splitlines()) ^ set(after.splitlines())}
    assert changed == {"GET /healthz", "schemas/HealthBody"}


@pytest.fixture
def crawled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema of OpenAPI refers to itself 1,800 times, and each time all that is registered would be searched for
    anchors again. A registry does not change, so it is searched once."""
    crawl, crawled = Registry.crawl, dict[int, tuple[Any, Any]]()  # with the registry itself, whose id is then its own

    def once(registry: Any) -> Any:
        if id(registry) not in crawled:
            crawled[id(registry)] = (registry, crawl(registry))
        return crawled[id(registry)][1]

    monkeypatch.setattr(Registry, "crawl", once)


def test_it_is_openapi_3_1_of_this_version(described: dict[str, Any], crawled_once: None) -> None:
    validate(described)
    assert (described["openapi"], described["info"]["version"]) == ("3.1.0", VERSION)


def test_without_a_stage_the_server_is_the_root() -> None:
    assert document(server="")["servers"] == [{"url": "/"}]


def test_every_operation_is_there_with_its_scope_and_its_answers(described: dict[str, Any]) -> None:
    for operation in every_operation():
        found = described["paths"][operation.template][operation.method.lower()]
        assert found.get("x-scope") == operation.scope
        assert found["security"] == ([] if operation.scope is None else [{"token": []}])
        assert {str(status) for status in operation.responses} <= set(found["responses"])


def test_every_problem_is_an_rfc_9457_problem(described: dict[str, Any]) -> None:
    for operations in described["paths"].values():
        for operation in operations.values():
            assert "200" in operation["responses"] or "201" in operation["responses"]
            for status, answer in operation["responses"].items():
                if status.isdecimal() and int(status) >= 400:
                    partners_own = (
                        [ANY] if "Sallyport-Outcome" in operation["responses"].get("200", {}).get("headers", ()) else []
                    )
                    assert list(answer["content"]) == [CONTENT_TYPE, *partners_own]


def test_every_part_of_a_path_is_a_parameter(described: dict[str, Any]) -> None:
    for template, operations in described["paths"].items():
        for operation in operations.values():
            names = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert names == {part[1:-1] for part in template.split("/") if part.startswith("{")}


def test_credentials_are_write_only_and_in_no_answer(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    for name, schema in schemas.items():
        for field, kind in schema.get("properties", {}).items():
            if (name.endswith("AuthBody") or name == "NewClientCertificateBody") and field in SECRETS:
                assert kind["writeOnly"] is True, (name, field)
    for name in ("AuthTypeBody", "HeaderNameBody", "ClientCertificateBody", "TlsBody"):
        assert not schemas[name]["properties"].keys() & SECRETS


def test_only_a_request_body_refuses_unknown_members(described: dict[str, Any]) -> None:
    for operation in every_operation():
        if operation.body is not None:
            assert described["components"]["schemas"][operation.body.__name__]["additionalProperties"] is False


def test_it_can_be_sent(described: dict[str, Any]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(described)) == described


# ---- what is said of every part --------------------------------------------------------------------------------------


def _objects(part: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in the document."""
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from _objects(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _objects(inner)


def _schemas_of_properties(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for example in _objects({key: value for key, value in described.items() if key != "examples"}):
        if isinstance(properties := example.get("properties"), dict):
            for name, schema in properties.items():
                yield str(example.get("title")), name, schema


def _operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for template, operations in described["paths"].items():
        for method, operation in operations.items():
            yield f"{method} {template}", operation


def test_every_property_has_a_description_and_an_example_that_its_schema_takes(described: dict[str, Any]) -> None:
    seen = 0
    for owner, name, schema in _schemas_of_properties(described):
        assert schema.get("description"), (owner, name)
        assert schema.get("examples"), (owner, name)
        for example in schema["examples"]:
            must_conform(schema, example)
        seen += 1
    assert seen > 100


def test_every_parameter_and_header_has_a_description_and_an_example_that_its_schema_takes(
    described: dict[str, Any],
) -> None:
    for where, operation in _operations(described):
        headers = [header for answer in operation["responses"].values() for header in answer["headers"].values()]
        for part in (*operation["parameters"], *headers):
            assert part["description"], where
            assert "example" in part or part["schema"]["examples"], where
            values = [part["example"]] if "example" in part else part["schema"]["examples"]
            for value in values:
                is_number = part["schema"].get("type") == "integer"
                must_conform(part["schema"], int(value) if is_number else value)


def test_every_example_of_a_body_fits_its_schema_and_its_status(described: dict[str, Any]) -> None:
    shared = described["components"]["examples"]
    used = set()
    for where, operation in _operations(described):
        for status, answer in operation["responses"].items():
            for content in answer["content"].values():
                for name, reference in content.get("examples", {}).items():
                    assert reference == {"$ref": f"#/components/examples/{name}"}
                    value = shared[name]["value"]
                    must_conform(content["schema"], value)
                    assert value.get("status", int(status)) in (int(status), "ok"), (where, status)
                    if "finished_at" in value and where not in CONTROLLED:
                        assert (status == "202") == (value["finished_at"] is None), (where, status)
                    used.add(name)
    assert used == set(shared)


def test_every_request_body_has_examples_that_its_schema_takes(described: dict[str, Any]) -> None:
    bodies = [operation["requestBody"] for _, operation in _operations(described) if "requestBody" in operation]
    assert len(bodies) == 16
    for body in bodies:
        content = body["content"]["application/json"]
        values = (
            [example["value"] for example in content["examples"].values()]
            if "examples" in content
            else [content["example"]]
        )
        for value in values:
            must_conform(content["schema"], value)


def test_every_example_of_a_destination_has_a_name_of_its_own(described: dict[str, Any]) -> None:
    """So that all of them can be made one after the other."""
    content = described["paths"]["/v1/destinations"]["post"]["requestBody"]["content"]["application/json"]
    names = [example["value"]["name"] for example in content["examples"].values()]
    assert len(names) == len(set(names)) > 1


def test_the_example_of_deleting_is_not_the_demo_destination(described: dict[str, Any]) -> None:
    (part,) = (
        part
        for part in described["paths"]["/v1/destinations/{destination}"]["delete"]["parameters"]
        if part["in"] == "path"
    )
    content = described["paths"]["/v1/destinations"]["post"]["requestBody"]["content"]["application/json"]
    assert part["example"] in [example["value"]["name"] for example in content["examples"].values()]


def test_every_operation_lists_its_problems_as_enums_and_has_those_that_everybody_has(
    described: dict[str, Any],
) -> None:
    for where, operation in _operations(described):
        listed = set()
        for status, answer in operation["responses"].items():
            if status.isdecimal() and int(status) >= 400:
                reference, own = answer["content"][CONTENT_TYPE]["schema"]["allOf"]
                assert reference == {"$ref": "#/components/schemas/ProblemBody"}
                assert own["properties"]["status"]["const"] == int(status)
                listed |= {kind.removeprefix(TYPE_PREFIX) for kind in own["properties"]["type"]["enum"]}
        assert {"400", "403", "405", "413", "429", "500", "502", "504"} <= set(operation["responses"]), where
        assert set(ALWAYS) <= listed <= set(KINDS), where
        assert (set(WITH_TOKEN) <= listed) == ("x-scope" in operation), where


def test_every_id_is_a_uuid(described: dict[str, Any]) -> None:
    ids = [(owner, name, schema) for owner, name, schema in _schemas_of_properties(described) if name.endswith("_id")]
    ids = [found for found in ids if found[1] not in OTHERS_IDS]
    assert len(ids) > 5
    for owner, name, schema in ids:
        *others, kind = sorted(schema.get("anyOf", [schema]), key=len)
        assert others in ([], [{"type": "null"}])
        assert (kind["type"], kind["format"]) == ("string", "uuid"), (owner, name)
    for where, operation in _operations(described):
        for part in operation["parameters"]:
            if part["name"].endswith("_id"):
                assert part["schema"]["format"] == "uuid", where


def test_states_outcomes_guarantees_verdicts_and_kinds_of_credentials_are_those_of_the_code(
    described: dict[str, Any],
) -> None:
    schemas = described["components"]["schemas"]
    for kind in (State, WaitingFor, Guarantee, DestinationState, CheckStatus, AuthType, OutcomeKind):
        assert schemas[kind.__name__]["enum"] == sorted(member.value for member in kind)
    unanswered = {outcome_kind(kind(reason="")) for kind in (Unreachable, Unknown, Refused)}
    assert {outcome_kind(Answered(status=200)), *unanswered} == set(OutcomeKind)
    assert {Answered, Unreachable, Unknown, Refused} == set(get_args(Outcome.__value__))


def test_every_kind_of_problem_is_described_and_used(described: dict[str, Any]) -> None:
    assert set(KINDS) == set(ALL_TITLES)
    used = {kind for operation in every_operation() for kind in operation.problems}
    assert used | set(ALWAYS) | set(WITH_TOKEN) == set(KINDS)


def test_links_lead_to_operations_and_parameters_that_exist(described: dict[str, Any]) -> None:
    parameters = {
        operation["operationId"]: {part["name"] for part in operation["parameters"]}
        for _, operation in _operations(described)
    }
    links = [schema["links"]["show"] for schema in _objects(described) if "links" in schema]
    assert {link["operationId"] for link in links} == {
        "get_deliveries_delivery_id",
        "get_destinations_destination",
        "get_jobs_job_id",
        "get_proposals_proposal_id",
    }
    for link in links:
        assert set(link["parameters"]) <= parameters[link["operationId"]]


# operationId, tag, parameters, and of the body whether it is required and its media types
type Shape = tuple[str, str, tuple[str, ...], tuple[bool | str, ...] | None]
JSON_BODY = (True, "application/json")
# What they answer is a delivery, or a job, in any state.
CONTROLLED = {
    "patch /v1/deliveries/{delivery_id}",
    *("post /v1/replays", "post /v1/cancellations", "get /v1/jobs/{job_id}"),
    *(f"post /v1/jobs/{{job_id}}/{transition}" for transition in ("pause", "resume", "cancel")),
    *(f"post /v1/deliveries/{{delivery_id}}/{act}" for act in ("resolve", "cancel", "retry", "expunge")),
}
PASSED_ON = ("destination", "path", "Idempotency-Key", "Prefer")
ANY_BODY = (False, "application/json", "text/plain", ANY)
OPERATION_SHAPES: dict[str, Shape] = {
    "GET /healthz": ("get_healthz", "about", (), None),
    "GET /openapi.json": ("get_openapi_json", "about", (), None),
    "GET /docs": ("get_docs", "about", (), None),
    "GET /console": ("get_console", "about", (), None),
    "GET /console/{version}/{file}": ("get_console_version_file", "about", ("version", "file"), None),
    "POST /v1/deliveries": ("post_deliveries", "deliveries", ("Idempotency-Key", "Prefer"), JSON_BODY),
    "GET /v1/deliveries": (
        "get_deliveries",
        "deliveries",
        (
            *("state", "destination", "since", "until", "idempotency_key", "ordering_key", "metadata", "outcome"),
            *("status", "may_have_happened", "limit", "cursor"),
        ),
        None,
    ),
    "GET /v1/deliveries/{delivery_id}": (
        "get_deliveries_delivery_id",
        "deliveries",
        ("delivery_id", "wait", "cursor"),
        None,
    ),
    "POST /v1/deliveries/{delivery_id}/resolve": (
        "post_deliveries_delivery_id_resolve",
        "deliveries",
        ("delivery_id",),
        JSON_BODY,
    ),
    **{
        f"POST /v1/deliveries/{{delivery_id}}/{act}": (
            f"post_deliveries_delivery_id_{act}",
            "deliveries",
            ("delivery_id",),
            None,
        )
        for act in ("ask", "cancel", "retry", "expunge")
    },
    "PATCH /v1/deliveries/{delivery_id}": (
        "patch_deliveries_delivery_id",
        "deliveries",
        ("delivery_id",),
        (True, "application/merge-patch+json", "application/json"),
    ),
    "POST /v1/replays": ("post_replays", "jobs", ("Idempotency-Key",), JSON_BODY),
    "POST /v1/cancellations": ("post_cancellations", "jobs", ("Idempotency-Key",), JSON_BODY),
    "GET /v1/proposals": ("get_proposals", "proposals", ("limit", "cursor"), None),
    "GET /v1/proposals/{proposal_id}": ("get_proposals_proposal_id", "proposals", ("proposal_id",), None),
    **{
        f"POST /v1/proposals/{{proposal_id}}/{decision}": (
            f"post_proposals_proposal_id_{decision}",
            "proposals",
            ("proposal_id",),
            None,
        )
        for decision in ("approve", "reject")
    },
    "GET /v1/jobs": ("get_jobs", "jobs", ("limit", "cursor"), None),
    "GET /v1/jobs/{job_id}": ("get_jobs_job_id", "jobs", ("job_id",), None),
    **{
        f"POST /v1/jobs/{{job_id}}/{transition}": (f"post_jobs_job_id_{transition}", "jobs", ("job_id",), None)
        for transition in ("pause", "resume", "cancel")
    },
    "POST /v1/destinations": ("post_destinations", "destinations", (), JSON_BODY),
    "GET /v1/destinations": ("get_destinations", "destinations", ("limit", "cursor"), None),
    "GET /v1/destinations/{destination}": ("get_destinations_destination", "destinations", ("destination",), None),
    "POST /v1/destinations/{destination}/rotate-secret": (
        "post_destinations_destination_rotate_secret",
        "destinations",
        ("destination", "If-Match"),
        JSON_BODY,
    ),
    "PATCH /v1/destinations/{destination}": (
        "patch_destinations_destination",
        "destinations",
        ("destination", "If-Match"),
        (True, "application/merge-patch+json", "application/json"),
    ),
    "DELETE /v1/destinations/{destination}": (
        "delete_destinations_destination",
        "destinations",
        ("destination", "pending", "If-Match"),
        None,
    ),
    **{
        f"POST /v1/destinations/{{destination}}/{transition}": (
            f"post_destinations_destination_{transition}",
            "destinations",
            ("destination",),
            (False, "application/json"),
        )
        for transition in ("pause", "resume", "disable", "enable")
    },
    "POST /v1/destinations/{destination}/verify": (
        "post_destinations_destination_verify",
        "destinations",
        ("destination",),
        None,
    ),
    "GET /v1/egress": ("get_egress", "egress", (), None),
    "GET /v1/egress/allowlist": ("get_egress_allowlist", "egress", ("Accept",), None),
    "GET /v1/audit": (
        "get_audit",
        "audit",
        ("what", "on", "by", "since", "until", "limit", "cursor"),
        None,
    ),
    "GET /v1/stats": ("get_stats", "stats", ("destination", "limit", "cursor"), None),
    "GET /v1/audit/attempts": ("get_audit_attempts", "audit", ("seal",), None),
    "GET /v1/audit/export": ("get_audit_export", "audit", ("after", "since", "until"), None),
    "POST /v1/egress/verify": ("post_egress_verify", "egress", (), None),
    **{
        f"{method} /v1/via/{{destination}}/{{path}}": (f"{method.lower()}_via_destination_path", "via", PASSED_ON, None)
        for method in ("GET", "HEAD", "OPTIONS")
    },
    **{
        f"{method} /v1/via/{{destination}}/{{path}}": (
            f"{method.lower()}_via_destination_path",
            "via",
            PASSED_ON,
            ANY_BODY,
        )
        for method in ("POST", "PUT", "PATCH", "DELETE")
    },
}


def test_client_generators_find_the_same_names_as_before(described: dict[str, Any]) -> None:
    shapes = {
        f"{method.upper()} {template}": (
            operation["operationId"],
            *operation["tags"],
            tuple(parameter["name"] for parameter in operation["parameters"]),
            (content["required"], *content["content"]) if (content := operation.get("requestBody")) else None,
        )
        for template, operations in described["paths"].items()
        for method, operation in operations.items()
    }
    assert shapes == OPERATION_SHAPES


def test_the_document_says_how_to_send_the_token(described: dict[str, Any]) -> None:
    assert described["components"]["securitySchemes"] == {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "spt_..."}
    }
    assert described["servers"] == [{"url": "/dev"}]
    assert [tag["name"] for tag in described["tags"]] == [
        "deliveries",
        "jobs",
        "proposals",
        "via",
        "destinations",
        "egress",
        "audit",
        "stats",
        "about",
    ]
    assert described["info"]["title"] == "Sallyport"


def test_headers_that_are_numbers_are_described_as_numbers(described: dict[str, Any]) -> None:
    types = {
        name: header["schema"]["type"]
        for operations in described["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for name, header in response.get("headers", {}).items()
    }
    assert {name for name, kind in types.items() if kind == "integer"} == {"Retry-After", "Sallyport-Content-Length"}
    assert set(types.values()) <= {"integer", "string"}
