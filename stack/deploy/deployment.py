"""Deploys a stage with a guard: package, change set with all nested ones, guard, question, execution, stack policy.

Not `sam deploy`: SAM 1.170 makes its change sets without those of nested stacks, so nobody could see in them that the
fixed address goes (https://github.com/aws/aws-sam-cli/issues/3739). SAM builds and packages; the change set is made
here, from the same table of samconfig.toml.
"""

import argparse
import contextlib
import hashlib
import os
import re
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError
from rich.console import Console
from rich.table import Table
from samtranslator.yaml_helper import yaml_parse

from stack.deploy.change_sets import EMPTY_REASONS, Live, Unreadable, read
from stack.deploy.events import Follower
from stack.deploy.guard import Verdict, judge, names_of, show
from stack.deploy.stack_policy import protect
from stack.render import APPLICATION, Refused, render, templates, written

ROOT = Path(__file__).parents[2]
BUILT = ".aws-sam/build/template.yaml"
PACKAGED = ".aws-sam/packaged.yaml"
SAM_BUCKETS_STACK = "aws-sam-cli-managed-default"  # what `sam package --resolve-s3` makes, once per account and Region
POLL_SECONDS = 5.0
# What a stage's table may say. The last four are for `sam deploy`, and are what is done here in any case.
UNDERSTOOD = {
    *("stack_name", "region", "parameter_overrides", "tags", "capabilities"),
    *("resolve_s3", "confirm_changeset", "fail_on_empty_changeset", "disable_rollback"),
}
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


class Stopped(Exception):
    """One line that says why nothing goes on, and what to do."""


# ---- What is to be deployed, and where -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table of samconfig.toml. `region` is empty where it names none."""

    stage: str
    stack: str
    region: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    capabilities: tuple[str, ...]


def target(samconfig: str, stage: str) -> Target:
    """From the text of samconfig.toml. Raises Stopped for a stage that it does not have."""
    tables = {
        name: table["deploy"]["parameters"] for name, table in tomllib.loads(samconfig).items() if _deploys(table)
    }
    if not stage:
        raise Stopped(f"which stage? STAGE= one of {', '.join(sorted(tables))}")
    if stage not in tables:
        raise Stopped(f"samconfig.toml has no stage {stage}; it has {', '.join(sorted(tables))}")
    table = tables[stage]
    if ignored := sorted(set(table) - UNDERSTOOD) + (["disable_rollback"] if table.get("disable_rollback") else []):
        raise Stopped(f"make deploy does not do what {', '.join(ignored)} asks for in the table of {stage}")
    return Target(
        stage=stage,
        stack=table["stack_name"],
        region=table.get("region", ""),
        parameters=_pairs(table.get("parameter_overrides", [])),
        tags=_pairs(table.get("tags", [])),
        capabilities=tuple(_words(table.get("capabilities", []))),
    )


def _deploys(table: Any) -> bool:
    return isinstance(table, dict) and "stack_name" in table.get("deploy", {}).get("parameters", {})


def _words(value: str | list[str]) -> list[str]:
    return value.split() if isinstance(value, str) else value


def _pairs(value: str | list[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in _words(value))


def architecture(wanted: Target, current: Mapping[str, str], template: str) -> str:
    """What the functions must be built for: the stage's Architecture, else what the stack keeps (`current` has its
    parameters, none for a stack that is not there), else the template's own default."""
    default = str(yaml_parse(template)["Parameters"]["Architecture"]["Default"])
    return wanted.parameters.get("Architecture", current.get("Architecture", default))


def demand_sound(wanted: Target, current: Mapping[str, str], *, region: str) -> None:
    """Refuses, before anything is built, what the template's limits and Rules would refuse, those of nested stacks too,
    and ranges inside the VPC's own, which no Rule can see. `current` are the parameters that the stack has now. Raises
    Stopped."""
    known = written(templates()[APPLICATION])["Parameters"]
    if unknown := sorted(wanted.parameters.keys() - known.keys()):
        raise Stopped(f"samconfig.toml gives {', '.join(unknown)}, which the template does not have")
    asked = {name: value for name, value in {**current, **wanted.parameters}.items() if name in known}
    try:
        parameters = render(asked, region=region).parameters
    except Refused as refused:
        raise Stopped(f"the parameters of {wanted.stage} are refused: {refused}") from None
    vpc = IPv4Network(parameters["VpcCidr"])
    for name in ("CorporateCidr", "AllowedPrivateCidrs"):
        for block in filter(None, parameters[name].split(",")):
            if IPv4Network(block).subnet_of(vpc):
                raise Stopped(f"{name} {block} lies in the VPC's own range {vpc}, which nothing outside of it can have")


def region_of(wanted: Target, environment: Mapping[str, str], profile_region: str | None) -> str:
    """Where to deploy. Raises Stopped when nobody says, or two say different things."""
    said = next((environment[name] for name in REGION_VARIABLES if environment.get(name)), "")
    if wanted.region and said and wanted.region != said:
        raise Stopped(f"samconfig.toml deploys {wanted.stage} to {wanted.region}, the environment says {said}")
    found = wanted.region or said or profile_region
    if not found:
        raise Stopped(f"no Region: set AWS_REGION, or region in the table of {wanted.stage} in samconfig.toml")
    return found


# ---- One deployment --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What it takes. `session` is boto3's; `sam` the program; `ask` gets a question and says whether it was a yes.

    Without `nested` the change set has no nested ones, and the guard sees the root alone.
    """

    target: Target
    region: str
    session: Any
    console: Console
    ask: Callable[[str], bool]
    sam: str
    allow: Sequence[str] = ()
    nested: bool = True
    folder: Path = ROOT
    pause: Callable[[], None] = lambda: time.sleep(POLL_SECONDS)
    cloudformation: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cloudformation", self.session.client("cloudformation", region_name=self.region))

    def say(self, words: str) -> None:
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)


def deploy(this: Deployment) -> int:
    """0 when the stack is as it should be, 1 when it is not. Raises Stopped and what botocore raises."""
    account = this.session.client("sts", region_name=this.region).get_caller_identity()["Account"]
    exists = _exists(this)
    this.say(f"{this.target.stack} in {this.region} of account {account}: {'an update' if exists else 'a new stack'}")
    url = _packaged(this, account)
    change_set = _change_set(this, url, exists=exists)
    if not change_set:
        this.say("Nothing to change.")
        return 0
    with _thrown_away_at_an_error(this, change_set):
        verdict = _judged(this, change_set, exists=exists)
        if not (verdict.passes and this.ask(f"{'Change' if exists else 'Make'} {this.target.stack} in {this.region}?")):
            this.cloudformation.delete_change_set(ChangeSetName=change_set)
            this.say("Nothing was changed.")
            return 1
        follower = _begun(this, change_set, verdict) if exists else _executed(this, change_set)
    return _ended(this, follower)


@contextlib.contextmanager
def _thrown_away_at_an_error(this: Deployment, change_set: str) -> Iterator[None]:
    """Deletes the change set when the block ends with an error or Ctrl-C: nobody has said yes to it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(BotoCoreError, ClientError):  # what went wrong before is what is told
            this.cloudformation.delete_change_set(ChangeSetName=change_set)
        raise


def _exists(this: Deployment) -> bool:
    """Whether there is something to update. Raises Stopped for a stack that takes no change set now."""
    status = (_described(this.cloudformation, this.target.stack) or {}).get("StackStatus", "")
    if status in ("", "REVIEW_IN_PROGRESS"):  # the second: a change set was made and never carried out
        return False
    if status.endswith("_IN_PROGRESS"):
        raise Stopped(f"{this.target.stack} is {status}: somebody else deploys; wait for it")
    if status == "ROLLBACK_COMPLETE":
        raise Stopped(f"the first deployment of {this.target.stack} failed; delete the stack, then deploy again")
    return True


def _described(client: Any, stack: str) -> dict[str, Any] | None:
    """What CloudFormation says of a stack; None for one that is not there."""
    try:
        found: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as failure:
        if "does not exist" in failure.response["Error"]["Message"]:
            return None
        raise
    return found


def _values(stack: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that a stack has now."""
    return {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])}


def _packaged(this: Deployment, account: str) -> str:
    """Uploads what was built, by SAM, and the template, which is too long for a request. Its URL."""
    command = [this.sam, "package", "--template-file", BUILT, "--output-template-file", PACKAGED, "--resolve-s3"]
    command += ["--s3-prefix", this.target.stack, "--region", this.region]
    this.say("Packaging and uploading what was built")
    # Its words are kept for a failure: on success it says to run sam deploy, which would pass the guard by.
    try:
        done = subprocess.run(command, cwd=this.folder, check=False, capture_output=True, text=True)
    except OSError as problem:
        raise Stopped(f"{this.sam} cannot be run ({problem.strerror}): make build sets it up") from None
    if done.returncode:
        this.say(f"{done.stdout}{done.stderr}")
        raise Stopped("sam package failed; its words are above")
    body = (this.folder / PACKAGED).read_bytes()
    bucket, key = _bucket(this), f"{this.target.stack}/{hashlib.sha256(body).hexdigest()}.template"
    s3 = this.session.client("s3", region_name=this.region)
    s3.put_object(Bucket=bucket, Key=key, Body=body, ExpectedBucketOwner=account)
    return f"{s3.meta.endpoint_url}/{bucket}/{key}"


def _bucket(this: Deployment) -> str:
    (found,) = this.cloudformation.describe_stacks(StackName=SAM_BUCKETS_STACK)["Stacks"]
    return str(next(output["OutputValue"] for output in found["Outputs"] if output["OutputKey"] == "SourceBucket"))


def _change_set(this: Deployment, url: str, *, exists: bool) -> str:
    """Its ARN; empty when there is nothing to change. Raises Stopped when it cannot be made."""
    made = this.cloudformation.create_change_set(
        StackName=this.target.stack,
        ChangeSetName=f"deploy-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        ChangeSetType="UPDATE" if exists else "CREATE",
        TemplateURL=url,
        Parameters=_parameters(this, exists=exists),
        Tags=[{"Key": key, "Value": value} for key, value in this.target.tags.items()],
        Capabilities=list(this.target.capabilities),
        # A new stack has nothing to lose, and the change sets of its nested stacks fail where one waits for another's
        # outputs (https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/759).
        IncludeNestedStacks=exists and this.nested,
        Description="Made by make deploy",
    )["Id"]
    with _thrown_away_at_an_error(this, made):
        page = _settled(this, made)
        reason = _reason(this, page) if page["Status"] == "FAILED" else ""
    if page["Status"] == "CREATE_COMPLETE":
        return str(made)
    this.cloudformation.delete_change_set(ChangeSetName=made)
    if any(words in reason for words in EMPTY_REASONS):
        return ""
    advice = ". If your change is not to blame, NESTED=no deploys under the stack policy alone" if exists else ""
    raise Stopped(f"CloudFormation makes no change set: {reason}{advice}")


def _parameters(this: Deployment, *, exists: bool) -> list[dict[str, Any]]:
    """The stage's own, and for the rest what the stack has now, as `sam deploy` does it: the two can take turns."""
    known = yaml_parse((this.folder / PACKAGED).read_text(encoding="utf-8"))["Parameters"]
    if unknown := sorted(set(this.target.parameters) - set(known)):
        raise Stopped(f"samconfig.toml gives {', '.join(unknown)}, which the template does not have")
    own = [{"ParameterKey": name, "ParameterValue": value} for name, value in this.target.parameters.items()]
    if not exists:
        return own
    (stack,) = this.cloudformation.describe_stacks(StackName=this.target.stack)["Stacks"]
    rest = [name for name in _values(stack) if name in known and name not in this.target.parameters]
    return own + [{"ParameterKey": name, "UsePreviousValue": True} for name in rest]


def _settled(this: Deployment, change_set: str) -> dict[str, Any]:
    """Its first page, once it is made or has failed."""
    while True:
        page: dict[str, Any] = this.cloudformation.describe_change_set(ChangeSetName=change_set)
        if page["Status"] in ("CREATE_COMPLETE", "FAILED"):
            return page
        this.pause()


def _reason(this: Deployment, page: Mapping[str, Any]) -> str:
    """Why it failed; where a nested one did, then why that one did, which AWS does not say further up."""
    reason = str(page.get("StatusReason", "no reason given"))
    nested = re.search(r"arn:\S+:changeSet/\S+", reason)
    if nested is None or nested[0] == page.get("ChangeSetId"):
        return reason
    inner = this.cloudformation.describe_change_set(ChangeSetName=nested[0].rstrip(".,:"))
    return f"{inner.get('StackName')}: {_reason(this, inner)}"


def _judged(this: Deployment, change_set: str, *, exists: bool) -> Verdict:
    """What the guard says, shown."""
    live = Live(client=this.cloudformation)
    found = read(live, change_set)
    verdict = judge(found, live, this.allow, blind=exists and not this.nested)
    show(found, verdict, this.console)
    if exists and not this.nested:
        this.say("The guard did not look into nested stacks: the stack policy alone holds there, and is set first.")
    return verdict


def _begun(this: Deployment, change_set: str, verdict: Verdict) -> Follower:
    """Execution of an update: under a stack policy that lets go what was allowed, which does not outlive a failure."""
    lifted = [*this.allow, *(verdict.going if verdict.allowed else ())]
    try:
        protect(this.cloudformation, this.target.stack, this.console, allow=lifted)
        return _executed(this, change_set)
    except BaseException:
        if lifted:
            this.say(f"Putting the stack policy back; should that fail: make protect STAGE={this.target.stage}")
            protect(this.cloudformation, this.target.stack, this.console)
        raise


def _executed(this: Deployment, change_set: str) -> Follower:
    """Has CloudFormation begin."""
    follower = Follower(client=this.cloudformation, stack=this.target.stack, say=this.say, pause=this.pause)
    this.cloudformation.execute_change_set(ChangeSetName=change_set)
    return follower


def _ended(this: Deployment, follower: Follower) -> int:
    """Watches until CloudFormation has come to an end; 0 when it is the wanted one."""
    try:
        status = follower.follow()
    except (KeyboardInterrupt, BotoCoreError, ClientError) as problem:
        why = str(problem) or "interrupted"
        hint = f"when it has ended: make protect STAGE={this.target.stage}"
        raise Stopped(f"CloudFormation goes on without being watched ({why}); {hint}") from None
    if status != "ROLLBACK_COMPLETE":  # a first deployment that failed can only be deleted
        protect(this.cloudformation, this.target.stack, this.console)
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        _show_outputs(this)
        return 0
    this.say(f"{this.target.stack} is {status}")
    for line in follower.failures:
        this.say(f"  {line}")
    return 1


def _show_outputs(this: Deployment) -> None:
    (found,) = this.cloudformation.describe_stacks(StackName=this.target.stack)["Stacks"]
    table = Table(title=f"Outputs of {this.target.stack}")
    for head in ("Output", "Value"):
        table.add_column(head, overflow="fold")
    for output in found.get("Outputs", []):
        table.add_row(output["OutputKey"], output["OutputValue"])
    this.console.print(table)


# ---- The command -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """`ready` (what to build for, once it is clear where to), `deploy` and `protect`; 1 and one line when it stops."""
    console, given = console or Console(), _parser().parse_args(arguments)
    try:
        return _commanded(given, console)
    except NoCredentialsError:
        problem: object = "no AWS credentials: sign in (aws sso login), or set AWS_PROFILE"
    except NoRegionError:
        problem = "no Region: set AWS_REGION"
    except KeyboardInterrupt:
        problem = "interrupted"
    except (Stopped, Unreadable, BotoCoreError, ClientError) as stopped:
        problem = stopped
    console.print(f"Stopped: {problem}", markup=False, highlight=False, soft_wrap=True)
    return 1


def _commanded(given: argparse.Namespace, console: Console) -> int:
    samconfig = (ROOT / "samconfig.toml").read_text(encoding="utf-8")
    session, wanted = boto3.Session(), target(samconfig, given.stage)
    region = region_of(wanted, os.environ, session.region_name)
    if given.command == "ready":
        current = _values(_described(session.client("cloudformation", region_name=region), wanted.stack) or {})
        demand_sound(wanted, current, region=region)
        console.print(architecture(wanted, current, (ROOT / "template.yaml").read_text(encoding="utf-8")))
        return 0
    if given.command == "protect":
        protect(session.client("cloudformation", region_name=region), wanted.stack, console)
        return 0
    return deploy(
        Deployment(
            target=wanted,
            region=region,
            session=session,
            console=console,
            ask=(lambda _: True) if given.yes else (lambda question: _answered(question, console)),
            sam=given.sam,
            allow=names_of(given.allow),
            nested=not given.without_nested,
        )
    )


def _answered(question: str, console: Console) -> bool:
    """Anything but a yes is a no, and so is nobody being there."""
    try:
        return console.input(f"{question} [y/N] ", markup=False).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make deploy", description=__doc__)
    parser.add_argument("command", choices=("ready", "deploy", "protect"))
    parser.add_argument("--stage", default="")
    parser.add_argument("--allow", default="", help="what may be lost, by logical id, separated by commas")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--without-nested", action="store_true", help="the guard sees the root alone")
    parser.add_argument("--sam", default="sam")
    return parser
