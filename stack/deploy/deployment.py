"""Deploys a stage with a guard: package, change set with its nested ones, guard, question, execution, stack policy.

Not `sam deploy`: SAM 1.170 creates its change sets without those of nested stacks, so they do not show that the fixed
address is deleted (https://github.com/aws/aws-sam-cli/issues/3739). SAM builds and packages; the change set is
created here, from the same table of samconfig.toml.
"""

import argparse
import contextlib
import hashlib
import os
import shlex
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import boto3
from rich.console import Console
from rich.table import Table
from samtranslator.yaml_helper import yaml_parse

from stack.aws import REPORTED, describe_stack, no_stack, readable
from stack.deploy.afterwards import associate_private_api, protect_from_deletion
from stack.deploy.change_sets import EMPTY_REASONS, ChangeSetUnreadable, LiveSource, read
from stack.deploy.events import Follower
from stack.deploy.failures import reason_of
from stack.deploy.guard import GuardDecision, decide, show, split_names
from stack.deploy.stack_policy import protect
from stack.deploy.status import CALLS as STATUS_CALLS
from stack.deploy.status import status, today
from stack.preflight.checks import Question, left_addresses
from stack.preflight.reader import NotReadable, PreflightVerdict, Reader
from stack.preflight.report import preflight, table
from stack.render import APPLICATION, ParametersRefused, Rendered, render, templates, written
from stack.stack_states import Readiness, in_words, state_of
from stack.switches import add_switch

ROOT = Path(__file__).parents[2]
BUILT = ".aws-sam/build/template.yaml"
PACKAGED = ".aws-sam/packaged.yaml"
SAM_BUCKETS_STACK = "aws-sam-cli-managed-default"  # created by `sam package --resolve-s3`, once per account and Region
POLL_SECONDS = 5.0
# The keys that a stage's table may have. Those of the second line are for `sam deploy`, and are what is done here in
# any case; s3_prefix, which `sam deploy --guided` saves, only says in which folder of the bucket the packages are.
UNDERSTOOD = {
    *("stack_name", "region", "parameter_overrides", "tags", "capabilities"),
    *("resolve_s3", "s3_prefix", "confirm_changeset", "fail_on_empty_changeset", "disable_rollback"),
}
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


class DeploymentStopped(Exception):
    """The deployment cannot go on. One line says why, and what to do."""


# ---- What to deploy, and where ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """A table of samconfig.toml. `region` is empty where it names none."""

    stage: str
    stack: str
    region: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    capabilities: tuple[str, ...]


def stage_config(samconfig: str, stage: str) -> StageConfig:
    """From the text of samconfig.toml. Raises DeploymentStopped for a stage that is not in it."""
    tables = {
        # As SAM, which saves in the second only what the first does not say for all commands.
        name: {**table.get("global", {}).get("parameters", {}), **table["deploy"]["parameters"]}
        for name, table in tomllib.loads(samconfig).items()
        if _deploys(table)
    }
    if not stage:
        raise DeploymentStopped(f"which stage? STAGE= one of {', '.join(sorted(tables))}")
    if stage not in tables:
        raise DeploymentStopped(f"samconfig.toml has no stage {stage}; it has {', '.join(sorted(tables))}")
    table = tables[stage]
    unknown = sorted(key for key, value in table.items() if value and key not in UNDERSTOOD)
    if ignored := unknown + (["disable_rollback"] if table.get("disable_rollback") else []):
        raise DeploymentStopped(f"make deploy does not support {', '.join(ignored)}, which the table of {stage} sets")
    return StageConfig(
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
    """One text has quotes where `sam deploy --guided` has saved it: a value may be empty or have spaces in it."""
    try:
        return shlex.split(value) if isinstance(value, str) else value
    except ValueError as problem:
        raise DeploymentStopped(f"samconfig.toml has {value!r}, which cannot be read: {problem}") from None


def _pairs(value: str | list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in _words(value)]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise DeploymentStopped(f"samconfig.toml has {', '.join(wrong)} where Name=value is expected")
    return {name: given for name, _, given in pairs}


def architecture(config: StageConfig, current: Mapping[str, str], template: str) -> str:
    """The processor to build for: the stage's Architecture, else the stack's present one, else the template's default.

    `current` has the parameters of the stack, none where it does not exist yet.
    """
    default = str(yaml_parse(template)["Parameters"]["Architecture"]["Default"])
    return config.parameters.get("Architecture", current.get("Architecture", default))


def validate_parameters(config: StageConfig, current: Mapping[str, str], *, region: str) -> None:
    """Checks the parameters before anything is built. Raises DeploymentStopped.

    It refuses what the templates' limits and Rules refuse, nested ones included, and corporate or partner ranges inside
    the VPC's own range, which no Rule can compare. `current` has the parameters of the stack as it is.
    """
    known = written(templates()[APPLICATION])["Parameters"]
    if unknown := sorted(config.parameters.keys() - known.keys()):
        raise DeploymentStopped(f"samconfig.toml gives {', '.join(unknown)}, which the template does not have")
    requested = {name: value for name, value in {**current, **config.parameters}.items() if name in known}
    try:
        parameters = render(requested, region=region).parameters
    except ParametersRefused as refused:
        raise DeploymentStopped(f"the parameters of {config.stage} are refused: {refused}") from None
    vpc = IPv4Network(parameters["VpcCidr"])
    for name in ("CorporateCidr", "AllowedPrivateCidrs"):
        for block in filter(None, parameters[name].split(",")):
            if IPv4Network(block).subnet_of(vpc):
                raise DeploymentStopped(
                    f"{name} {block} lies in the VPC's own range {vpc}, so nothing outside of it can use it"
                )


def region_of(config: StageConfig, environment: Mapping[str, str], profile_region: str | None) -> str:
    """Where to deploy. Raises DeploymentStopped when no Region is set, or two that differ."""
    from_environment = next((environment[name] for name in REGION_VARIABLES if environment.get(name)), "")
    if config.region and from_environment and config.region != from_environment:
        raise DeploymentStopped(
            f"samconfig.toml deploys {config.stage} to {config.region}, the environment says {from_environment}"
        )
    region = config.region or from_environment or profile_region
    if not region:
        raise DeploymentStopped(
            f"no Region: set AWS_REGION, or region in the table of {config.stage} in samconfig.toml"
        )
    return region


# ---- One deployment --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a deployment needs. `session` is boto3's, `sam` the program; `ask` returns whether the answer was yes.

    Without `nested` the change set has no nested ones, and the guard sees the root stack alone.
    """

    config: StageConfig
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

    def print_line(self, words: str) -> None:
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)


def deploy(deployment: Deployment) -> int:
    """0 when the stack is as wanted, 1 when it is not. Raises DeploymentStopped and what botocore raises."""
    account = deployment.session.client("sts", region_name=deployment.region).get_caller_identity()["Account"]
    exists = _exists(deployment)
    deployment = deployment if exists else _with_left_addresses(deployment)
    deployment.print_line(
        f"{deployment.config.stack} in {deployment.region} of account {account}: "
        f"{'an update' if exists else 'a new stack'}"
    )
    url = _package(deployment, account)
    change_set = _create_change_set(deployment, url, exists=exists)
    if not change_set:
        deployment.print_line("Nothing to change.")
        return 0
    with _deleted_on_error(deployment, change_set):
        decision = _decision(deployment, change_set, exists=exists)
        if not (
            decision.passes
            and deployment.ask(f"{'Change' if exists else 'Make'} {deployment.config.stack} in {deployment.region}?")
        ):
            deployment.cloudformation.delete_change_set(ChangeSetName=change_set)
            deployment.print_line("Nothing was changed.")
            return 1
        follower = _execute_update(deployment, change_set, decision) if exists else _execute(deployment, change_set)
    return _follow_to_end(deployment, follower)


def _with_left_addresses(deployment: Deployment) -> Deployment:
    """With the addresses that an earlier stack of this name left, where the answer is that they are to be used."""
    question = _question(deployment.config, None, deployment.session, deployment.region)
    try:
        left = left_addresses(question)
    except NotReadable:
        return deployment
    if not left or not deployment.ask(f"Use the addresses that an earlier stack left ({_listed(left)})?"):
        return deployment
    parameters = {**deployment.config.parameters, "EgressAllocationIds": ",".join(allocation for allocation, _ in left)}
    return replace(deployment, config=replace(deployment.config, parameters=parameters))


def _listed(addresses: Sequence[tuple[str, str]]) -> str:
    return ", ".join(address for _, address in addresses)


def _question(config: StageConfig, stack: Mapping[str, Any] | None, session: Any, region: str) -> Question:
    """What the preflight looks at; `stack` is DescribeStacks' answer for it. The parameters are valid."""
    known = written(templates()[APPLICATION])["Parameters"].keys()
    kept = {name: value for name, value in _current_parameters(stack or {}).items() if name in known}
    own = {name: value for name, value in config.parameters.items() if name in known}
    rendered = render({**kept, **own}, region=region)
    status = str((stack or {}).get("StackStatus", ""))
    is_update = state_of(status, config.stack).readiness is Readiness.UPDATE
    return Question(
        reader=Reader(session=session, region=region),
        stack=config.stack,
        status=status,
        rendered=rendered,
        current=_rendered_before(kept, region, otherwise=rendered) if is_update else None,
    )


def _rendered_before(parameters: Mapping[str, str], region: str, *, otherwise: Rendered) -> Rendered:
    """The stack as it is, by today's templates; `otherwise` where they no longer take its parameters."""
    try:
        return render(parameters, region=region)
    except ParametersRefused:
        return otherwise


@contextlib.contextmanager
def _deleted_on_error(deployment: Deployment, change_set: str) -> Iterator[None]:
    """Deletes the change set when the block ends with an error or Ctrl-C, since nobody has approved it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(*REPORTED):  # the first error is the one to report
            deployment.cloudformation.delete_change_set(ChangeSetName=change_set)
        raise


def _exists(deployment: Deployment) -> bool:
    """Whether there is a stack to update. Raises DeploymentStopped for one that takes no change set now."""
    stack = deployment.config.stack
    status = (describe_stack(deployment.cloudformation, stack) or {}).get("StackStatus", "")
    state = state_of(status, stack)
    if state.readiness in (Readiness.WAIT, Readiness.REPAIR):
        raise DeploymentStopped(in_words(status, stack))
    return state.readiness is Readiness.UPDATE


def _current_parameters(stack: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a stack as it is."""
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack.get("Parameters", [])}


def _package(deployment: Deployment, account: str) -> str:
    """Has SAM upload the build, and uploads the template, which is too long for a request. Returns its URL."""
    command = [deployment.sam, "package", "--template-file", BUILT, "--output-template-file", PACKAGED, "--resolve-s3"]
    command += ["--s3-prefix", deployment.config.stack, "--region", deployment.region]
    deployment.print_line("Packaging and uploading the build")
    # Its output is shown only after a failure: on success it says to run sam deploy, which would bypass the guard.
    try:
        done = subprocess.run(command, cwd=deployment.folder, check=False, capture_output=True, text=True)
    except OSError as problem:
        raise DeploymentStopped(f"{deployment.sam} cannot be run ({problem.strerror}): make build sets it up") from None
    if done.returncode:
        deployment.print_line(f"{done.stdout}{done.stderr}")
        raise DeploymentStopped("sam package failed; its output is above")
    body = (deployment.folder / PACKAGED).read_bytes()
    bucket, key = _bucket(deployment), f"{deployment.config.stack}/{hashlib.sha256(body).hexdigest()}.template"
    s3 = deployment.session.client("s3", region_name=deployment.region)
    s3.put_object(Bucket=bucket, Key=key, Body=body, ExpectedBucketOwner=account)
    return f"{s3.meta.endpoint_url}/{bucket}/{key}"


def _bucket(deployment: Deployment) -> str:
    (stack,) = deployment.cloudformation.describe_stacks(StackName=SAM_BUCKETS_STACK)["Stacks"]
    return str(next(output["OutputValue"] for output in stack["Outputs"] if output["OutputKey"] == "SourceBucket"))


def _create_change_set(deployment: Deployment, url: str, *, exists: bool) -> str:
    """Its ARN; empty when there is nothing to change. Raises DeploymentStopped where it cannot be created."""
    change_set = deployment.cloudformation.create_change_set(
        StackName=deployment.config.stack,
        ChangeSetName=f"deploy-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        ChangeSetType="UPDATE" if exists else "CREATE",
        TemplateURL=url,
        Parameters=_parameters(deployment, exists=exists),
        Tags=[{"Key": key, "Value": value} for key, value in deployment.config.tags.items()],
        Capabilities=list(deployment.config.capabilities),
        # A new stack has nothing to lose, and the change sets of its nested stacks fail where one waits for another's
        # outputs (https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/759).
        IncludeNestedStacks=exists and deployment.nested,
        Description=f"Made by make deploy. SHA-256 of the template: {_sha256(deployment.folder / PACKAGED)}, of the "
        f"packages: {packages_sha256(deployment.folder / BUILT)}",
    )["Id"]
    with _deleted_on_error(deployment, change_set):
        page = _wait_for_change_set(deployment, change_set)
        reason = reason_of(deployment.cloudformation, page) if page["Status"] == "FAILED" else ""
    if page["Status"] == "CREATE_COMPLETE":
        return str(change_set)
    deployment.cloudformation.delete_change_set(ChangeSetName=change_set)
    if any(words in reason for words in EMPTY_REASONS):
        return ""
    advice = ". If the change itself is right, NESTED=no deploys under the stack policy alone" if exists else ""
    raise DeploymentStopped(f"CloudFormation creates no change set: {reason}{advice}")


def packages_sha256(built: Path) -> str:
    """Of all files beside the built template, by path and contents: the same build has the same, on any day."""
    digest = hashlib.sha256()
    for path in sorted(path for path in built.parent.rglob("*") if path.is_file() and path != built):
        digest.update(f"{path.relative_to(built.parent).as_posix()}\0{_sha256(path)}\n".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _parameters(deployment: Deployment, *, exists: bool) -> list[dict[str, Any]]:
    """The stage's own, and the stack's present values for the rest, as `sam deploy` does: the two can be mixed."""
    known = yaml_parse((deployment.folder / PACKAGED).read_text(encoding="utf-8"))["Parameters"]
    if unknown := sorted(set(deployment.config.parameters) - set(known)):
        raise DeploymentStopped(f"samconfig.toml gives {', '.join(unknown)}, which the template does not have")
    own = [{"ParameterKey": name, "ParameterValue": value} for name, value in deployment.config.parameters.items()]
    if not exists:
        return own
    (stack,) = deployment.cloudformation.describe_stacks(StackName=deployment.config.stack)["Stacks"]
    rest = [name for name in _current_parameters(stack) if name in known and name not in deployment.config.parameters]
    return own + [{"ParameterKey": name, "UsePreviousValue": True} for name in rest]


def _wait_for_change_set(deployment: Deployment, change_set: str) -> dict[str, Any]:
    """Its first page, once it is created or has failed."""
    while True:
        page: dict[str, Any] = deployment.cloudformation.describe_change_set(ChangeSetName=change_set)
        if page["Status"] in ("CREATE_COMPLETE", "FAILED"):
            return page
        deployment.pause()


def _decision(deployment: Deployment, change_set: str, *, exists: bool) -> GuardDecision:
    """What the guard decides, printed."""
    live = LiveSource(client=deployment.cloudformation)
    contents = read(live, change_set)
    decision = decide(contents, live, deployment.allow, skip_nested=exists and not deployment.nested)
    show(contents, decision, deployment.console)
    if exists and not deployment.nested:
        deployment.print_line(
            "The guard did not look into nested stacks: the stack policy alone holds there, and is set first."
        )
    return decision


def _execute_update(deployment: Deployment, change_set: str, decision: GuardDecision) -> Follower:
    """Executes under a stack policy that permits what ALLOW names; a failure restores the policy."""
    allowed = [*deployment.allow, *(decision.removed_stacks if decision.allowed else ())]
    try:
        protect(deployment.cloudformation, deployment.config.stack, deployment.console, allow=allowed)
        return _execute(deployment, change_set)
    except BaseException:
        if allowed:
            deployment.print_line(
                f"Restoring the stack policy; should that fail: make protect STAGE={deployment.config.stage}"
            )
            protect(deployment.cloudformation, deployment.config.stack, deployment.console)
        raise


def _execute(deployment: Deployment, change_set: str) -> Follower:
    """Starts the execution."""
    follower = Follower(
        client=deployment.cloudformation,
        stack=deployment.config.stack,
        print_line=deployment.print_line,
        pause=deployment.pause,
    )
    deployment.cloudformation.execute_change_set(ChangeSetName=change_set)
    return follower


def _follow_to_end(deployment: Deployment, follower: Follower) -> int:
    """Watches until CloudFormation has finished; 0 when it has succeeded."""
    try:
        status = follower.follow()
    except (KeyboardInterrupt, *REPORTED) as problem:
        why = readable(problem) if isinstance(problem, REPORTED) else "interrupted"
        hint = f"when it has finished: make protect STAGE={deployment.config.stage}"
        raise DeploymentStopped(f"CloudFormation continues unwatched ({why}); {hint}") from None
    state = state_of(status, deployment.config.stack)
    if state.stays:
        protect(deployment.cloudformation, deployment.config.stack, deployment.console)
    if state.succeeded:
        _finish(deployment)
        return 0
    deployment.print_line(in_words(status, deployment.config.stack))
    for line in follower.failures:
        deployment.print_line(f"  {line}")
    return 1


def _finish(deployment: Deployment) -> None:
    """What comes last, because a failed deployment could not be undone with it."""
    place = (deployment.session, deployment.region, deployment.config.stack, deployment.print_line)
    associate_private_api(*place)
    protect_from_deletion(*place)
    _show_outputs(deployment)


def _show_outputs(deployment: Deployment) -> None:
    (stack,) = deployment.cloudformation.describe_stacks(StackName=deployment.config.stack)["Stacks"]
    table = Table(title=f"Outputs of {deployment.config.stack}")
    for head in ("Output", "Value"):
        table.add_column(head, overflow="fold")
    for output in stack.get("Outputs", []):
        table.add_row(output["OutputKey"], output["OutputValue"])
    deployment.console.print(table)


# ---- The command -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """`ready` (checks, and prints the processor to build for), `preflight`, `deploy` or `protect`; 1 when it stops."""
    console, options = console or Console(), parser().parse_args(arguments)
    try:
        return _run_command(options, console)
    except KeyboardInterrupt:
        problem: object = "interrupted"
    except (DeploymentStopped, ChangeSetUnreadable) as stopped:
        problem = stopped
    except REPORTED as refused:
        problem = readable(refused)
    console.print(f"Stopped: {problem}", markup=False, highlight=False, soft_wrap=True)
    return 1


def _run_command(options: argparse.Namespace, console: Console) -> int:
    samconfig = (ROOT / "samconfig.toml").read_text(encoding="utf-8")
    session, config = boto3.Session(), stage_config(samconfig, options.stage)
    region = region_of(config, os.environ, session.region_name)
    ask = (lambda _: True) if options.yes else partial(_ask, console=Console(stderr=True))
    if options.command in ("ready", "preflight"):
        stack = describe_stack(session.client("cloudformation", region_name=region), config.stack)
        current = _current_parameters(stack or {})
        validate_parameters(config, current, region=region)
        question = _question(config, stack, session, region)
        if options.command == "preflight":
            return 0 if preflight(question, console, None) else 1
        # make reads the processor from the standard output, so what people read goes elsewhere.
        if not preflight(question, Console(stderr=True), ask):
            return 1
        console.print(architecture(config, current, (ROOT / "template.yaml").read_text(encoding="utf-8")))
        return 0
    if options.command == "status":
        return _print_status(session, region, config.stack, console)
    if options.command == "protect":
        return _protect(session, region, config.stack, console)
    return deploy(
        Deployment(
            config=config,
            region=region,
            session=session,
            console=console,
            ask=ask,
            sam=options.sam,
            allow=split_names(options.allow),
            nested=options.nested,
        )
    )


def _protect(session: Any, region: str, stack: str, console: Console) -> int:
    """Policy and protection from deletion. Raises DeploymentStopped where there is nothing to protect."""
    client = session.client("cloudformation", region_name=region)
    status = str(_existing(client, stack, region)["StackStatus"])
    if not state_of(status, stack).stays:
        raise DeploymentStopped(f"there is nothing to protect: {in_words(status, stack)}")
    protect(client, stack, console)
    protect_from_deletion(session, region, stack, partial(console.print, markup=False, highlight=False))
    return 0


def _existing(client: Any, stack: str, region: str) -> dict[str, Any]:
    """DescribeStacks' answer for a stack. Raises DeploymentStopped where there is none of that name."""
    described = describe_stack(client, stack)
    if described is None:
        raise DeploymentStopped(no_stack(stack, region))
    return described


def _print_status(session: Any, region: str, stack: str, console: Console) -> int:
    _existing(session.client("cloudformation", region_name=region), stack, region)
    reader = Reader(session=session, region=region, calls=STATUS_CALLS)
    newest = written(templates()[APPLICATION])["Resources"]["Migration"]["Properties"]["LatestMigration"]
    try:
        found = list(status(reader, stack, newest_migration=newest, now=today()))
    except NotReadable as problem:
        raise DeploymentStopped(f"{stack} in {region} cannot be read: {problem}") from None
    console.print(table(f"{stack} in {region}", found))
    return 1 if any(finding.verdict is PreflightVerdict.STOP for finding in found) else 0


def _ask(question: str, console: Console) -> bool:
    """Anything but a yes is a no, and so is the end of the input."""
    try:
        return console.input(f"{question} [y/N] ", markup=False).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def parser() -> argparse.ArgumentParser:
    """What make deploy, preflight, protect and status take: each of their variables is an option here."""
    parser = argparse.ArgumentParser(prog="make deploy", description=__doc__)
    parser.add_argument("command", choices=("ready", "preflight", "deploy", "protect", "status"))
    parser.add_argument("--stage", default="")
    parser.add_argument("--allow", default="", help="what may be lost, by logical id, separated by commas")
    add_switch(parser, "--yes", words="do not ask")
    add_switch(parser, "--nested", default=True, words="no: the guard sees the root stack alone")
    parser.add_argument("--sam", default="sam")
    return parser
