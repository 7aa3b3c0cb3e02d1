"""Sets the stack policy on a stack and on those nested in it, so that CloudFormation itself refuses.

The guard reads a change set; the policy also holds where the guard was not run. A policy applies to one stack and not
to those nested in it, so each gets one. It names types, not logical ids: one text fits every stack, and a resource that
is added later is covered.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from stack.deploy.change_sets import STACK, ExistingResource, LiveSource
from stack.deploy.guard import PROTECTED

POLICY = Path(__file__).parents[2] / "infra/stack-policy.json"
DENIED_ACTIONS = ["Update:Replace", "Update:Delete"]

type Policy = Mapping[str, Any]


def protect(client: Any, stack: str, console: Console, *, allow: Iterable[str] = ()) -> None:
    """`client` is boto3's for CloudFormation; `allow` names what may be lost this once, by logical id or address.

    Raises what botocore raises, and ChangeSetUnreadable for a stack that does not exist.
    """
    policy, names, live = json.loads(POLICY.read_text(encoding="utf-8")), set(allow), LiveSource(client=client)
    for path, stack_id, resources in _stacks(live, stack, ""):
        body = policy_allowing(resources, path, names) if names else policy_for(policy, resources)
        client.set_stack_policy(StackName=stack_id, StackPolicyBody=json.dumps(body))
        console.print(f"Stack policy set on {path.rstrip('.') or stack}", markup=False, highlight=False, soft_wrap=True)


def _stacks(live: LiveSource, stack: str, path: str) -> Iterator[tuple[str, str, list[ExistingResource]]]:
    """The path of each stack (empty or `Network.`), its name or id, and its resources."""
    resources = list(live.resources(stack))
    yield path, stack, resources
    for resource in resources:
        if resource.type == STACK and resource.physical_id:  # one that could not be created has none
            yield from _stacks(live, resource.physical_id, f"{path}{resource.logical_id}.")


def policy_for(policy: Policy, resources: Iterable[ExistingResource]) -> Policy:
    """The policy as written, and a denial to replace or delete nested stacks that hold protected resources."""
    nested = [
        f"LogicalResourceId/{resource.logical_id}"
        for resource in resources
        if resource.type == STACK and resource.logical_id in PROTECTED_STACKS
    ]
    return {"Statement": [*policy["Statement"], *([_denial(nested)] if nested else [])]}


# The nested stacks that hold protected resources whatever the parameters are. The others come and go with them, and so
# does Edge, for the firewall's sake: whether a domain would go with it, the guard finds out.
PROTECTED_STACKS = ("Network", "Database", "Vpn")


def policy_allowing(resources: Iterable[ExistingResource], path: str, names: set[str]) -> Policy:
    """A policy for one deployment: denies the same by logical ids, except those in `names`.

    ExecuteChangeSet takes no policy of its own (UpdateStack does), so the stack's is replaced and restored.
    """
    guarded = [
        resource
        for resource in resources
        if resource.type in PROTECTED or (resource.type == STACK and resource.logical_id in PROTECTED_STACKS)
    ]
    denied = [resource for resource in guarded if not names & {resource.logical_id, f"{path}{resource.logical_id}"}]
    denials = [_denial([f"LogicalResourceId/{resource.logical_id}" for resource in denied])] if denied else []
    return {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"}, *denials]}


def _denial(resources: list[str]) -> Mapping[str, Any]:
    return {"Effect": "Deny", "Principal": "*", "Action": DENIED_ACTIONS, "Resource": resources}
