"""Sets the stack policy on a stack and on all that are nested in it, so that CloudFormation itself refuses.

The guard reads a change set; the policy also holds where nobody asked the guard. A policy counts for one stack and not
for those nested in it, so each gets one. It names types, not logical ids: one text fits every stack, and a resource
that is added later is covered.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from stack.deploy.change_sets import STACK, Held, Live
from stack.deploy.guard import PROTECTED

POLICY = Path(__file__).parents[2] / "infra/stack-policy.json"
LOSSES = ["Update:Replace", "Update:Delete"]

type Policy = Mapping[str, Any]


def protect(client: Any, stack: str, console: Console, *, allow: Iterable[str] = ()) -> None:
    """`client` is boto3's for CloudFormation; `allow` has what may be lost, by logical id or address, for the moment.

    Raises what botocore raises, and Unreadable for a stack that is not there.
    """
    policy, names, live = json.loads(POLICY.read_text(encoding="utf-8")), set(allow), Live(client=client)
    for path, stack_id, held in _stacks(live, stack, ""):
        body = lifted(held, path, names) if names else policy_for(policy, held)
        client.set_stack_policy(StackName=stack_id, StackPolicyBody=json.dumps(body))
        console.print(f"Stack policy set on {path.rstrip('.') or stack}", markup=False, highlight=False, soft_wrap=True)


def _stacks(live: Live, stack: str, path: str) -> Iterator[tuple[str, str, list[Held]]]:
    """The path of each stack (empty or `Network.`), its name or id, and what it holds."""
    held = list(live.held(stack))
    yield path, stack, held
    for item in held:
        if item.type == STACK and item.physical_id:  # one that could not be made has none
            yield from _stacks(live, item.physical_id, f"{path}{item.logical_id}.")


def policy_for(policy: Policy, held: Iterable[Held]) -> Policy:
    """The policy as it is written, and for a nested stack that is there: it may not go with all that it holds."""
    nested = [f"LogicalResourceId/{item.logical_id}" for item in held if item.type == STACK and item.logical_id in KEPT]
    return {"Statement": [*policy["Statement"], *([_denial(nested)] if nested else [])]}


# The nested stacks that hold what must stay. The others come and go with parameters: the bastion's, the domain's.
KEPT = ("Network", "Database", "Vpn")


def lifted(held: Iterable[Held], path: str, names: set[str]) -> Policy:
    """A policy for the time of one deployment: denies the same by logical ids, but for those that were named.

    ExecuteChangeSet takes no policy of its own (UpdateStack does), so the stack's is exchanged and put back.
    """
    guarded = [item for item in held if item.type in PROTECTED or (item.type == STACK and item.logical_id in KEPT)]
    kept = [item for item in guarded if not names & {item.logical_id, f"{path}{item.logical_id}"}]
    denials = [_denial([f"LogicalResourceId/{item.logical_id}" for item in kept])] if kept else []
    return {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"}, *denials]}


def _denial(resources: list[str]) -> Mapping[str, Any]:
    return {"Effect": "Deny", "Principal": "*", "Action": LOSSES, "Resource": resources}
