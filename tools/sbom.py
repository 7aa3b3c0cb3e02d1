"""Writes the list of the package's parts in CycloneDX's JSON: what each is, its version, hashes and licence.

`make sbom` runs it after `make build`, and reads the built package itself, not a list of what should be in it. The
hashes are those of src/requirements.lock: of the wheels that were installed.
"""

import argparse
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tools.package import LOCK

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / ".aws-sam/build/ApiFunction"  # all functions have the same
PARTS = "sallyport.cdx.json"


def main(arguments: list[str] | None = None) -> int:
    """Writes the list beside the packages. Returns the exit status."""
    asked = argparse.ArgumentParser(prog="make sbom", description=__doc__.partition("\n")[0] if __doc__ else None)
    asked.add_argument("package", type=Path, nargs="?", default=PACKAGE)
    package: Path = asked.parse_args(arguments).package
    if not package.is_dir():
        sys.stderr.write(f"There is no built package in {package}. Run make build first.\n")
        return 1
    written = package.parent / PARTS
    written.write_text(parts(package, ROOT / "src" / LOCK), encoding="utf-8")
    sys.stdout.write(f"{written.name} lists {len(list(_distributions(package)))} parts.\n")
    return 0


def parts(package: Path, locked: Path) -> str:
    """CycloneDX 1.6 as JSON. Without a time and a serial number of its own: the same package has the same list."""
    hashes = hashes_of(locked)
    bom = Bom(components=[_component(found, hashes) for found in _distributions(package)])
    bom.metadata.component = Component(name="sallyport", type=ComponentType.APPLICATION, bom_ref="sallyport")
    bom.register_dependency(bom.metadata.component, bom.components)
    listed = json.loads(JsonV1Dot6(bom).output_as_string())
    del listed["serialNumber"], listed["metadata"]["timestamp"]
    return json.dumps(listed, indent=2, sort_keys=True) + "\n"


def hashes_of(locked: Path) -> dict[str, list[str]]:
    """The SHA-256 of the wheels of each pinned dependency."""
    text = locked.read_text(encoding="utf-8").replace("\\\n", " ")
    return {
        line.partition("==")[0]: re.findall(r"--hash=sha256:(\w{64})", line)
        for line in text.splitlines()
        if "==" in line and not line.startswith("#")
    }


def _distributions(package: Path) -> Iterator[importlib.metadata.Distribution]:
    yield from sorted(importlib.metadata.distributions(path=[str(package)]), key=lambda found: found.name.lower())


def _component(found: importlib.metadata.Distribution, hashes: dict[str, list[str]]) -> Component:
    name = re.sub(r"[-_.]+", "-", found.name).lower()
    return Component(
        name=name,
        version=found.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}@{found.version}",
        purl=PackageURL("pypi", name=name, version=found.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in hashes.get(name, ())],
        licenses=list(_licenses(found)),
    )


def _licenses(found: importlib.metadata.Distribution) -> Iterator[License]:
    """As the distribution itself says: an expression of SPDX, else the text of its field, else its classifiers."""
    stated = found.metadata.get("License-Expression") or found.metadata.get("License") or ""
    classified = [
        line.rpartition(" :: ")[2]
        for line in found.metadata.get_all("Classifier") or ()
        if line.startswith("License :: ")
    ]
    for text in [stated.partition("\n")[0]] if stated else classified[:1]:
        yield LicenseFactory().make_from_string(text)


if __name__ == "__main__":
    sys.exit(main())
