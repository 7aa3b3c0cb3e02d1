"""Those who manage destinations: they pause and resume them, enable what a partner's 410 disabled, resolve what holds
back an order, cancel what is pending, and send again what is unknown or has failed."""

from functools import partial
from uuid import UUID

from domain.deliveries import Resolution
from domain.destinations import DestinationState, Transition
from domain.errors import (
    BeingAsked,
    DatabaseUnavailable,
    DestinationPaused,
    Disabled,
    NotNow,
    QueueUnavailable,
    Unavailable,
    WrongState,
)
from domain.ids import DeliveryId, ProposalId, TenantId
from flows.ask import ask
from flows.audit import Actor
from flows.control import cancel, resolve, retry
from flows.destination_states import move
from flows.services import Services
from simulator.choices import MANAGERS
from simulator.database import Server
from simulator.evidence import Told
from simulator.features import Feature
from simulator.functions import Fleet, NoAnswer
from simulator.setting import BANKS, BY_ID, DESTINATIONS, Target, targets_of
from simulator.world import World

PAUSES_SECONDS = (5.0, 40.0, 300.0, 2_000.0)
DISABLED_SECONDS = (3.0, 60.0, 600.0)
TRIES = 5
AGAIN_SECONDS = 20.0
_SHARE_PERCENT = 25
# What managers do by hand has another token's approval, where it needs one.
A_MANAGER = Actor(by="a token", approval=ProposalId(UUID(int=0xF0)))
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
            for _ in range(self._world.choices.of((0, 1, 3))):
                at = within_seconds * self._world.choices.choose(20) / 20
                self._world.scheduler.call_at(at, lambda: self._world.scheduler.spawn(self._resolve_all))
            self._plan_questions(within_seconds=within_seconds)
            if not self._world.choices.happens(_SHARE_PERCENT):
                return
            for _ in range(self._world.choices.of((1, 2))):
                target = self._world.choices.of(targets_of(self._world.features))
                at = within_seconds * self._world.choices.choose(20) / 20 * self._world.choices.of((0.05, 0.5))
                self._world.scheduler.call_at(at, partial(self._begin, target))

    def _plan_questions(self, *, within_seconds: float) -> None:
        """Somebody wants to know at once what became of something; perhaps two at the same moment."""
        if Feature.QUESTIONS not in self._world.features:
            return
        for _ in range(self._world.choices.of((0, 1, 3))):
            at = within_seconds * self._world.choices.choose(20) / 20 * self._world.choices.of((0.1, 1.0))
            for _ in range(self._world.choices.of((1, 2))):
                self._world.scheduler.call_at(at, lambda: self._world.scheduler.spawn(self._ask))

    def _ask(self) -> None:
        self._world.scheduler.follow(MANAGERS)
        unknown = [
            delivery
            for delivery, state in sorted(self._server.states.items())
            if state == "unknown" and self._server.destination_of(delivery) in BANKS
        ]
        if not unknown:
            return
        delivery, asked_at = self._world.choices.of(unknown), self._world.now
        target = BY_ID[self._server.destination_of(delivery)]

        def work(services: Services, _: float) -> str:
            delivery_id, actor = DeliveryId(UUID(delivery)), A_MANAGER
            asked = ask(delivery_id, tenant_id=target.tenant_id, actor=actor, services=services)
            return asked.delivery.state.value

        self._world.log("manager", "manage", "asks about it now", delivery=delivery)
        try:
            state, _ = self._api.invoke(work, what="ask")
        except (BeingAsked, DestinationPaused, Disabled, NotNow, WrongState, Unavailable, NoAnswer) as error:
            self._world.mark(f"manager: cannot ask, {type(error).__name__}")
            return
        except Exception as error:  # noqa: BLE001 - the API would answer 500, which no fault of the schedule may cause
            self._world.evidence.misuse.append(f"ask: {type(error).__name__}: {error}")
            return
        self._world.mark("manager: asks about a delivery")
        told = Told(
            asked_at=asked_at,
            at=self._world.now,
            caller="manager",
            how="read",
            tenant=str(target.tenant_id),
            destination=target.name,
            delivery=delivery,
            state=state,
        )
        self._world.evidence.told.append(told)

    def activate(self) -> None:
        """Resumes and enables whatever is not active: a task of an operator, once faults have stopped."""
        for destination, state in sorted(self._server.destination_states.items()):
            if state is not DestinationState.ACTIVE:
                self._move(BY_ID[destination], _WAYS_BACK[state])

    def resolve(self) -> None:
        """Says of whatever holds back an order what became of it. Nothing here asks the partner: it is made up."""
        asks = Feature.QUESTIONS in self._world.features
        hurried = asks and not self._world.weather.over and self._world.choices.choose(2) == 1
        for delivery, state in self._server.holding(also_asked=hurried):
            as_what = self._world.choices.of((Resolution.FAILED, Resolution.DELIVERED))
            self._resolve(delivery, Resolution.FAILED if state == "failed" else as_what)

    def _resolve(self, delivery: str, as_what: Resolution) -> None:
        tenant_id = BY_ID[self._server.destination_of(delivery)].tenant_id

        def work(services: Services, _: float) -> None:
            delivery_id, actor = DeliveryId(UUID(delivery)), A_MANAGER
            resolve(delivery_id, as_what, note=None, tenant_id=tenant_id, actor=actor, services=services)

        self._world.evidence.resolved.setdefault(delivery, self._world.now)
        self._world.log("manager", "manage", f"resolves it as {as_what.value}", delivery=delivery)
        try:
            self._api.invoke(work, what="manage")
        except (WrongState, Unavailable, DatabaseUnavailable, QueueUnavailable, NoAnswer) as error:
            self._world.mark(f"manager: cannot resolve, {type(error).__name__}")
        else:
            self._world.mark(f"manager: resolves as {as_what.value}")

    def _begin(self, target: Target) -> None:
        self._world.scheduler.spawn(partial(self._pause, target))

    def _resolve_all(self) -> None:
        self._world.scheduler.follow(MANAGERS)
        self.resolve()
        self._cancel()
        if self._world.choices.choose(2):
            self._send_again()

    def _cancel(self) -> None:
        """Cancels something that is pending, if anything is; by then a worker may have begun to send it."""
        tenants = {told.delivery: told.tenant for told in self._world.evidence.told if told.how == "accepted"}
        pending = [
            delivery
            for delivery, state in sorted(self._server.states.items())
            if state == "pending" and delivery in tenants
        ]
        if not pending:
            return
        delivery = self._world.choices.of(tuple(pending))
        tenant_id = TenantId(UUID(tenants[delivery]))

        def work(services: Services, _: float) -> None:
            cancel(DeliveryId(UUID(delivery)), tenant_id=tenant_id, actor=A_MANAGER, services=services)

        self._world.evidence.resolved.setdefault(delivery, self._world.now)
        self._world.log("manager", "manage", "cancels it", delivery=delivery)
        try:
            self._api.invoke(work, what="manage")
        except (WrongState, Unavailable, NoAnswer) as error:
            self._world.mark(f"manager: cannot cancel, {type(error).__name__}")
        else:
            self._world.mark("manager: cancels a delivery")

    def _send_again(self) -> None:
        """Wants one more attempt of something that is unknown, has failed, or is pending. What has a place in an order
        is left to `resolve`: it would go behind those that went past it."""
        rows = {told.delivery: told for told in self._world.evidence.told if told.how in ("accepted", "ended")}
        ordered = {str(target.destination_id) for target in DESTINATIONS if target.options.ordering is not None}
        states = [
            (delivery, state)
            for delivery, state in sorted(self._server.states.items())
            if state in ("unknown", "failed", "pending")
            and delivery in rows
            and self._server.destination_of(delivery) not in ordered
        ]
        if not states:
            return
        delivery, state = self._world.choices.of(states)
        tenant_id, delivery_id = TenantId(UUID(rows[delivery].tenant)), DeliveryId(UUID(delivery))

        def work(services: Services, _: float) -> None:
            actor = A_MANAGER
            if state == "unknown":
                as_what = Resolution.AGAIN
                resolve(delivery_id, as_what, note=None, tenant_id=tenant_id, actor=actor, services=services)
            else:
                retry(delivery_id, tenant_id=tenant_id, actor=actor, services=services)

        self._world.evidence.again.setdefault(delivery, []).append(self._world.now)
        self._world.log("manager", "manage", f"wants one more attempt, as it is {state}", delivery=delivery)
        try:
            self._api.invoke(work, what="manage")
        except (WrongState, Unavailable, DatabaseUnavailable, QueueUnavailable, NoAnswer) as error:
            self._world.mark(f"manager: cannot send again, {type(error).__name__}")
        else:
            self._world.evidence.repeated.append((self._world.now, delivery))
            self._world.mark(f"manager: sends again what is {state}")

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
            actor = A_MANAGER
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
