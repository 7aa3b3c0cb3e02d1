"""Those who manage destinations: they pause and resume them, and enable what a partner's 410 disabled."""

from functools import partial

from domain.destinations import DestinationState, Transition
from domain.errors import DatabaseUnavailable, QueueUnavailable, Unavailable, WrongState
from flows.audit import Actor
from flows.destination_states import move
from flows.services import Services
from simulator.choices import MANAGERS
from simulator.database import Server
from simulator.functions import Fleet, NoAnswer
from simulator.setting import BY_ID, DESTINATIONS, Target
from simulator.world import World

PAUSES_SECONDS = (5.0, 40.0, 300.0, 2_000.0)
DISABLED_SECONDS = (3.0, 60.0, 600.0)
TRIES = 5
AGAIN_SECONDS = 20.0
_SHARE_PERCENT = 25
_WAYS_BACK = {DestinationState.PAUSED: Transition.RESUME, DestinationState.DISABLED: Transition.ENABLE}


class Managers:
    """All of a run. What they do not manage while everything goes wrong is done when faults have stopped."""

    def __init__(self, world: World, server: Server, api: Fleet) -> None:
        self._world = world
        self._server = server
        self._api = api
        server.on_disabled = self._enable_soon

    def plan(self, *, within_seconds: float) -> None:
        """Perhaps pauses destinations, each for a while."""
        with self._world.choices.of_stream(MANAGERS):
            if not self._world.choices.happens(_SHARE_PERCENT):
                return
            for _ in range(self._world.choices.of((1, 2))):
                target = self._world.choices.of(DESTINATIONS)
                at = within_seconds * self._world.choices.choose(20) / 20 * self._world.choices.of((0.05, 0.5))
                self._world.scheduler.call_at(at, partial(self._begin, target))

    def activate(self) -> None:
        """Resumes and enables whatever is not active: a task of an operator, once faults have stopped."""
        for destination, state in sorted(self._server.destination_states.items()):
            if state is not DestinationState.ACTIVE:
                self._move(BY_ID[destination], _WAYS_BACK[state])

    def _begin(self, target: Target) -> None:
        self._world.scheduler.spawn(partial(self._pause, target))

    def _pause(self, target: Target) -> None:
        self._world.scheduler.follow(MANAGERS)
        self._move(target, Transition.PAUSE)
        self._world.scheduler.pause(self._world.choices.of(PAUSES_SECONDS))
        self._move(target, Transition.RESUME)

    def _enable_soon(self, destination: str) -> None:
        """Called where a partner's 410 disabled it, in the middle of whatever recorded that."""
        with self._world.choices.of_stream(MANAGERS):
            after = self._world.choices.of(DISABLED_SECONDS)
            enable = partial(self._enable, BY_ID[destination])
            self._world.scheduler.call_at(self._world.now + after, lambda: self._world.scheduler.spawn(enable))

    def _enable(self, target: Target) -> None:
        self._world.scheduler.follow(MANAGERS)
        self._move(target, Transition.ENABLE)

    def _move(self, target: Target, transition: Transition) -> None:
        """Tries until it is done, or somebody else has done something else."""

        def work(services: Services, _: float) -> None:
            actor = Actor(by="a token")
            move(
                str(target.destination_id),
                transition,
                tenant_id=target.tenant_id,
                reason=None,
                actor=actor,
                services=services,
            )

        for _ in range(TRIES):
            self._world.log("manager", "manage", f"{transition.value}s {target.name}")
            try:
                self._api.invoke(work, what="manage")
            except WrongState:
                return
            except (Unavailable, DatabaseUnavailable, QueueUnavailable, NoAnswer):
                self._world.mark("manager: tries again")
                self._world.scheduler.pause(AGAIN_SECONDS)
            else:
                self._world.mark(f"manager: {transition.value}s a destination")
                return
