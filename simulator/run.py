"""One run, from a seed or a tape to its story.

In order: choose the weather, the callers and the partners; let everything happen until faults stop; let everything come
to rest; read the rows; hold all promises against the evidence.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.bulk import BulkManagers
from simulator.callers import Callers
from simulator.choices import Choices
from simulator.database import Server
from simulator.evidence import RunEvidence
from simulator.faults import LATE_RECORDS, draw_weather
from simulator.features import Feature, draw_features
from simulator.functions import API_SECONDS, Fleet, Pollers
from simulator.incidents import Incidents, Operator
from simulator.managers import Managers
from simulator.partner import Partners
from simulator.promises import broken_promises
from simulator.scheduler import NeverEnds, Scheduler
from simulator.seams import STAGE, seams
from simulator.setting import BANKS, IDEMPOTENT, RealConnection, emptied
from simulator.sqs import ModelledQueue
from simulator.trace import Story
from simulator.world import World

WORKER_TIMEOUT_SECONDS = 45.0  # template.yaml
TROUBLE_PERCENTS = (0, 10, 35, 35, 60, 80)
COUNTS = (1, 3, 5, 8, 12, 20, 20)
TROUBLE_WITH_LATE_RECORDS = (60, 60, 80)  # what leads to rare orders of events then
CALLS_WITHIN_SECONDS = (30.0, 0.5, 0.5, 0.5, 5.0, 300.0)  # in half a second they fill whole batches
FAULTS_UNTIL_SECONDS = (600.0, 120.0, 2_000.0, 9_000.0)
POLLER_PAUSES_SECONDS = (0.0, 1.0, 3.0, 10.0)
CONCURRENCIES = (2, 1, 1, 3, 4)  # one alone gets the fullest batches


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run's story, where it came, and how much it did."""

    story: Story
    marks: Counter[str]
    evidence: RunEvidence


def run_tape(source: int | Sequence[int], connection: RealConnection) -> Story:
    """The story of a seed, or of a tape."""
    return play(source, connection).story


def play(source: int | Sequence[int], connection: RealConnection) -> RunResult:
    """Runs a seed or a tape on an empty database."""
    choices = Choices(source) if isinstance(source, int) else Choices(tape=source)
    emptied(connection)
    with seams():
        world = _live(choices, connection)
    story = Story(
        seed=source if isinstance(source, int) else 0,
        tape=tuple(choices.tape),
        events=tuple(world.events),
        broken=tuple(broken_promises(world.evidence)),
    )
    return RunResult(story=story, marks=world.marks, evidence=world.evidence)


def _live(choices: Choices, connection: RealConnection) -> World:
    weather = draw_weather(choices)
    features = draw_features(choices, weather)
    world = World(choices=choices, scheduler=Scheduler(choices), weather=weather, features=features)
    for feature in sorted(features, key=lambda each: each.name):
        world.mark(f"feature: {feature.name}")
    world.mark(f"weather: {world.weather.name}")
    server, queue = Server(world, connection), ModelledQueue(world)
    STAGE.world, STAGE.server, STAGE.queue = world, server, queue
    troubles = TROUBLE_WITH_LATE_RECORDS if world.weather.theme == LATE_RECORDS else TROUBLE_PERCENTS
    banks = BANKS if Feature.QUESTIONS in features else frozenset()
    partners = Partners(world, trouble_percent=choices.of(troubles), idempotent=IDEMPOTENT, banks=banks)
    api = Fleet("api", world, partners, server, timeout_seconds=API_SECONDS)
    workers = Fleet("worker", world, partners, server, timeout_seconds=WORKER_TIMEOUT_SECONDS)
    faults_until = choices.of(FAULTS_UNTIL_SECONDS)
    pause_seconds = choices.of(POLLER_PAUSES_SECONDS)
    Pollers(world, queue, workers, concurrency=choices.of(CONCURRENCIES), pause_seconds=pause_seconds)
    Callers(world, api, count=choices.of(COUNTS), within_seconds=choices.of(CALLS_WITHIN_SECONDS))
    incidents = Incidents(world, server, queue, (api, workers))
    world.happen = incidents.happen
    incidents.plan(within_seconds=faults_until)
    managers = Managers(world, server, api)
    managers.plan(within_seconds=faults_until)
    server.want_four_eyes(features)
    bulk = BulkManagers(world, server, api)
    bulk.plan(within_seconds=faults_until)
    operator = Operator(world, server, queue, workers, managers, bulk)
    operator.hurry(within_seconds=faults_until)
    try:
        world.scheduler.run(until=faults_until)
        world.weather.calm_down()
        server.recover()
        queue.recover()
        world.log("faults", "calm", "no more faults from now on")
        operator.begin(purged=incidents.purged)
        world.scheduler.run()
        world.evidence.ended = "at rest"
    except NeverEnds as error:
        world.evidence.ended = str(error)
    for fleet in (api, workers):
        fleet.close()
    server.close()
    _read_rows(world.evidence, connection, queue)
    return world


def _read_rows(evidence: RunEvidence, connection: RealConnection, queue: ModelledQueue) -> None:
    evidence.deliveries = connection.execute(
        "SELECT * FROM delivery LEFT JOIN delivery_body USING (delivery_id) ORDER BY delivery_id"
    ).fetchall()
    evidence.proposals = connection.execute("SELECT * FROM proposal ORDER BY proposal_id").fetchall()
    evidence.jobs = connection.execute("SELECT * FROM job ORDER BY job_id").fetchall()
    evidence.attempts = connection.execute("SELECT * FROM attempt ORDER BY delivery_id, number").fetchall()
    evidence.waiting = queue.waiting()
