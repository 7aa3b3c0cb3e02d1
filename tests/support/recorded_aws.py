"""boto3's session with recorded answers, by operation; requests and answers are held to the services' models."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import boto3
from botocore.stub import Stubber

type Answer = Mapping[str, Any] | str | Exception | Callable[[Mapping[str, Any]], Mapping[str, Any]]


@cache
def client_of(service: str, region: str) -> Any:
    return boto3.client(service, region, aws_access_key_id="made-up", aws_secret_access_key="made-up")


class RecordedSession:
    """boto3's session with recorded answers. A text is the code of an error, an exception is raised."""

    def __init__(self, answers: Mapping[str, Answer], *, region: str) -> None:
        self.answers, self.region = answers, region
        self.asked: list[tuple[str, str]] = []

    def client(self, service: str, *, region_name: str) -> "RecordedClient":
        assert region_name == self.region or self.answers.get("any_region")
        return RecordedClient(self, service)

    def answer(self, service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        self.asked.append((service, operation))
        client = client_of(service, self.region)
        answer = self.answers[operation]
        if isinstance(answer, Exception):
            raise answer
        with Stubber(client) as stub:
            if isinstance(answer, str):
                stub.add_client_error(operation, answer)
            else:
                stub.add_response(operation, answer(arguments) if callable(answer) else dict(answer))
            return getattr(client, operation)(**arguments)


class RecordedClient:
    def __init__(self, recorded: RecordedSession, service: str) -> None:
        self.recorded, self.service = recorded, service

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **arguments: self.recorded.answer(self.service, operation, arguments)
