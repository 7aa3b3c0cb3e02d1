"""stack/capabilities.py says what the conditions of template.yaml say, whatever the parameters."""

from itertools import product

import pytest

from stack.capabilities import Capabilities, capabilities
from stack.render import APPLICATION, REGION, TOPOLOGIES, TemplateEvaluation, templates, written

DECLARED = written(templates()[APPLICATION])["Parameters"]
CHOICES = [
    {"Topology": topology, "CorporateApi": api, "CorporateCidr": cidr}
    for topology, api, cidr in product(TOPOLOGIES, DECLARED["CorporateApi"]["AllowedValues"], ("", "172.20.0.0/16"))
]


def by_the_template(parameters: dict[str, str]) -> Capabilities:
    evaluation = TemplateEvaluation(APPLICATION, templates(), parameters, REGION)
    return Capabilities(
        has_internet=evaluation.condition("HasInternet"),
        has_vpn=evaluation.condition("HasVpn"),
        private_api=evaluation.condition("HasPrivateApi"),
        public_database=evaluation.condition("IsInternetAccessible"),
    )


@pytest.mark.parametrize(
    "parameters", [{}, *CHOICES], ids=lambda parameters: " ".join(parameters.values()) or "defaults"
)
def test_the_capabilities_are_those_of_the_templates_conditions(parameters: dict[str, str]) -> None:
    assert capabilities(parameters) == by_the_template(parameters)
