"""What a run of the lab is about: a network, where it came from, and what it is meant to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stack.network.model import Network
from stack.render import Rendered


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network to prove things of.

    `parameters` are the root template's, and say what the network is meant to be; the proofs take their expectations
    from them and not from the network. `names` are the addresses in the templates of what AWS calls by other ids; empty
    where the network came from the templates, which then are in `rendered`. `deployed` are the resources of a stack
    that is deployed, of which little more than the types is known. `differences` are those of its network from that of
    the templates for the same parameters; None where nothing was compared.
    """

    name: str
    parameters: Mapping[str, str]
    network: Network
    names: Mapping[str, str] = field(default_factory=dict)
    rendered: Rendered | None = None
    deployed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    differences: tuple[str, ...] | None = None

    @property
    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        """By address, with their types and what is known of their properties."""
        return self.deployed if self.rendered is None else self.rendered.resources

    def address(self, identity: str) -> str:
        """What the templates call the owner of an interface."""
        return self.names.get(identity, identity)
