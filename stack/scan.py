"""Two scanners of others on what our templates make: checkov for everything, cfripper for IAM and security groups.

    python -m stack.scan .venv-scan/bin

They are given the rendered application, for neither works out nested Ifs, padded lists or nested stacks by itself:
every topology with every option on that has to do with safety. What is off by default (a key of one's own, tracing) is
a choice about money, and the scanners would only repeat that it is off.

An exemption stands in the Metadata of the resource that it is for, in checkov's own form, or in the template's Metadata
where it is for all of a file:

    Metadata:
      checkov: {skip: [{id: CKV_AWS_117, comment: why}]}
      cfripper: {skip: [{id: WildcardResourceRule, comment: why}]}

Exits with 1 for a finding without an exemption, for an exemption without a reason, and for one that nothing needs.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stack.capabilities import capabilities
from stack.render import NEEDS, TOPOLOGIES, Rendered, render, templates, written

KEY = "arn:aws:kms:us-east-1:555555555555:key/00000000-0000-4000-8000-000000000000"
EVERY_SAFEGUARD = {
    "Bastion": "yes",
    "DatabaseProxy": "yes",
    "DatabaseMinCapacity": "0.5",
    "DatabaseReader": "yes",
    "AllowedCallerCidrs": "198.51.100.0/24",
    "FlowLogs": "all",
    "InterfaceEndpoints": "sqs,secretsmanager",
    "Tracing": "xray",
    "WebAcl": "yes",
    "KmsKeyArn": KEY,
    "CorporateDatabaseAccess": "yes",
    "ReserveConcurrency": "yes",
}
DOMAIN = {
    "DomainName": "sallyport.example.com",
    "CertificateArn": "arn:aws:acm:us-east-1:555555555555:certificate/00000000-0000-4000-8000-000000000000",
    "HostedZoneId": "Z0123456789ABCDEFGHIJ",
}
# What cfripper's rules read. Its parser refuses some of the others as they are (an alarm's threshold of 0.05).
OF_CFRIPPER = ("AWS::EC2::SecurityGroup", "AWS::IAM::", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy")
STACK = "AWS::CloudFormation::Stack"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """What a scanner says about a resource, by its address."""

    scanner: str
    check: str
    address: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Exemption:
    """`address` is None where it is for all resources of the stacks that `template` makes."""

    scanner: str
    check: str
    template: str
    address: str | None
    reason: str


def main(arguments: list[str]) -> int:
    """Prints what is wrong. Returns the exit status."""
    (tools,) = arguments
    rendered = applications()
    found = scan(rendered, Path(tools))
    words = list(faults(found, exemptions(rendered), owners(rendered)))
    sys.stdout.write(("\n".join(words) or f"{len(found)} findings, each exempted with its reason") + "\n")
    return 1 if words else 0


def applications(texts: Mapping[str, str] | None = None) -> list[Rendered]:
    """Every topology with every safeguard."""
    return [render(_asked(topology), texts=texts) for topology in TOPOLOGIES]


def _asked(topology: str) -> dict[str, str]:
    asked = {"Topology": topology, **NEEDS.get(topology, {}), **EVERY_SAFEGUARD}
    able = capabilities(asked)
    if not able.has_vpn:
        del asked["CorporateDatabaseAccess"]  # refused where there is no VPN
    return asked if able.private_api else asked | DOMAIN  # a private API has none


def scan(rendered: Iterable[Rendered], tools: Path) -> set[Finding]:
    """What both scanners find, whatever is exempted. Raises ValueError when one of them cannot read what it gets."""
    with TemporaryDirectory() as place, ThreadPoolExecutor() as both:
        files = [_file(Path(place), number, found) for number, found in enumerate(rendered)]
        checkov = both.submit(_checkov, tools, [whole for whole, _, _ in files])
        cfripper = both.submit(_cfripper, tools, [part for _, part, _ in files])
        names = {flat: address for _, _, flattened in files for flat, address in flattened.items()}
        return {_named(finding, names) for finding in [*checkov.result(), *cfripper.result()]}


def _file(place: Path, number: int, rendered: Rendered) -> tuple[Path, Path, dict[str, str]]:
    """The application as one template, its part for cfripper, and the address of each logical id in them."""
    kept = {address: resource for address, resource in rendered.resources.items() if resource["Type"] != STACK}
    flat = {address: address.replace(".", "") for address in kept}
    resources = {flat[address]: _without_metadata(resource) for address, resource in kept.items()}
    part = {name: resource for name, resource in resources.items() if resource["Type"].startswith(OF_CFRIPPER)}
    files = place / f"{number}.json", place / f"{number}-cfripper.json"
    for file, content in zip(files, (resources, part), strict=True):
        file.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": content}), encoding="utf-8")
    return *files, {name: address for address, name in flat.items()}


def _without_metadata(resource: Mapping[str, Any]) -> dict[str, Any]:
    """So that the scanners report what is exempted too."""
    return {
        key: resource[key] for key in ("Type", "Properties", "DeletionPolicy", "UpdateReplacePolicy") if key in resource
    }


def _named(finding: Finding, names: Mapping[str, str]) -> Finding:
    address = names.get(finding.address, finding.address)
    return Finding(scanner=finding.scanner, check=finding.check, address=address, words=finding.words)


def _checkov(tools: Path, files: list[Path]) -> list[Finding]:
    options = ["--framework", "cloudformation", "--skip-download", "--quiet", "--compact", "--output", "json"]
    answer = json.loads(_run([str(tools / "checkov"), *options, "--file", *map(str, files)]))
    if answer["summary"]["parsing_errors"] or not answer["summary"]["resource_count"]:
        raise ValueError(f"checkov could not read the templates: {answer['summary']}")
    return [
        Finding(
            scanner="checkov",
            check=failed["check_id"],
            address=failed["resource"].rpartition(".")[2],
            words=failed["check_name"],
        )
        for failed in answer["results"]["failed_checks"]
    ]


def _cfripper(tools: Path, files: list[Path]) -> list[Finding]:
    return [
        Finding(scanner="cfripper", check=failed["rule"], address=address, words=failed["reason"])
        for file in files
        for failed in json.loads(_run([str(tools / "cfripper"), "--format", "json", str(file)]))["failures"]
        for address in failed["resource_ids"]
    ]


def _run(command: list[str]) -> str:
    """Its output. Both end with a status above 0 when they find something, and write no JSON when they fail."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    start = ended.stdout.find("{")
    if start < 0:
        raise ValueError(f"{command[0]} failed: {ended.stderr[-2000:]}")
    return ended.stdout[start:]


# ---- Exemptions


def exemptions(rendered: Iterable[Rendered], texts: Mapping[str, str] | None = None) -> set[Exemption]:
    """All that the templates state."""
    texts = texts or templates()
    stated = set[Exemption]()
    for application in rendered:
        for stack, template in application.templates.items():
            prefix = f"{stack}." if stack else ""
            source = written(texts[template])
            stated |= set(_stated(source.get("Metadata", {}), template, None))
            for name, resource in source["Resources"].items():
                stated |= set(_stated(resource.get("Metadata", {}), template, f"{prefix}{name}"))
    return stated


def _stated(metadata: Mapping[str, Any], template: str, address: str | None) -> Iterator[Exemption]:
    for scanner in ("checkov", "cfripper"):
        for skipped in metadata.get(scanner, {}).get("skip", []):
            yield Exemption(
                scanner=scanner,
                check=str(skipped["id"]),
                template=template,
                address=address,
                reason=str(skipped.get("comment", "")),
            )


def owners(rendered: Iterable[Rendered], texts: Mapping[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """For each address, the template and the resource in it that made it: SAM makes ApiStage of Api."""
    texts = texts or templates()
    owners_by_address = {}
    for application in rendered:
        for address in application.resources:
            stack, _, name = address.rpartition(".")
            template = application.templates[stack]
            sources = [source for source in written(texts[template])["Resources"] if name.startswith(source)]
            source = max(sources, key=len)
            owners_by_address[address] = (template, f"{stack}.{source}" if stack else source)
    return owners_by_address


def faults(
    found: Iterable[Finding], stated: Iterable[Exemption], made_by: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    """In words: findings without an exemption, exemptions without a reason or without a finding."""
    needed = set[Exemption]()
    for finding in sorted(found):
        template, source = made_by[finding.address]
        covering = {
            exemption
            for exemption in stated
            if (exemption.scanner, exemption.check) == (finding.scanner, finding.check)
            and (exemption.address == source or (exemption.address is None and exemption.template == template))
        }
        needed |= covering
        if not covering:
            yield f"{finding.scanner} {finding.check} {finding.address}: {finding.words}"
    for exemption in sorted(set(stated), key=str):
        place = exemption.address or exemption.template
        if exemption not in needed:
            yield f"{place}: {exemption.scanner} no longer finds {exemption.check}, so remove its exemption"
        if len(exemption.reason.split()) < 4:
            yield f"{place}: the exemption from {exemption.check} has no reason"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
