"""What `make capacity` calculates: by hand, against queueing theory, and as the page quotes it."""

import random
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from stack import render
from stack.capacity import report
from stack.capacity.plan import (
    CONNECTIONS,
    HIGHEST_RATE,
    CapacityPlan,
    CapacityQuestion,
    Demand,
    assumptions,
    bottlenecks,
    declared,
    limits,
    ramp_up,
    service_of,
)
from stack.capacity.service import BatchService
from stack.capacity.simulation import QueueLoad, QueueRun, simulate
from stack.cost.bill import total
from tests.contract import rules_functions

SERVICE = service_of(250, 10)
NO_RETRIES = {"retry_share": 0.0, "retry_seconds": 0.0}


def demands(rate: float = 1000, **question: object) -> dict[str, Demand]:
    asked = replace(CapacityQuestion(rate=rate), **question)  # type: ignore[arg-type]  # fields by name
    return {demand.key: demand for demand in CapacityPlan(asked).demands()}


def needed(key: str, rate: float = 1000, **question: object) -> float:
    return demands(rate, **question)[key].needed


def run(rate: float, workers: int, *, service: BatchService = SERVICE, seconds: float = 60, seed: int = 1) -> QueueRun:
    load = QueueLoad(rate=rate, **NO_RETRIES)
    return simulate(load, service, free_at=[0.0] * workers, seconds=seconds, seed=seed)


# ---- the time of a batch ---------------------------------------------------------------------------------------------


def test_one_attempt_takes_the_overhead_and_the_mean_latency() -> None:
    assert SERVICE.mean_seconds(1) == pytest.approx(0.050 + 0.250, rel=1e-3)


@pytest.mark.parametrize("attempts", [2, 5, 10])
def test_a_batch_takes_as_long_as_the_slowest_of_its_partners(attempts: int) -> None:
    chance = random.Random(7)
    slowest = mean(max(SERVICE.latency(chance) for _ in range(attempts)) for _ in range(40_000))
    assert SERVICE.mean_seconds(attempts) == pytest.approx(0.050 + slowest, rel=0.01)


def test_no_attempt_takes_longer_than_its_deadline() -> None:
    slow = replace(SERVICE, latency_seconds=10.0, variation=5.0, deadline_seconds=30.0)
    chance = random.Random(7)
    assert max(slow.latency(chance) for _ in range(10_000)) == 30
    assert slow.mean_seconds(10) < 30.06


def test_batches_grow_only_when_there_are_too_few_workers_for_single_attempts() -> None:
    assert SERVICE.attempts_per_batch(10, workers=4) == 1  # ten attempts of 0.3 s are three at a time
    assert 1 < SERVICE.attempts_per_batch(10, workers=2) < 10
    assert SERVICE.attempts_per_batch(1000, workers=2) == 10
    size = SERVICE.attempts_per_batch(10, workers=2)
    assert SERVICE.workers(10, attempts=size) == pytest.approx(2, rel=0.02)


# ---- the simulation --------------------------------------------------------------------------------------------------


def test_a_run_is_repeated_by_its_seed() -> None:
    assert run(50, 10) == run(50, 10)
    assert run(50, 10) != run(50, 10, seed=2)


def test_one_worker_without_batches_waits_as_long_as_pollaczek_and_khinchine_say() -> None:
    """M/G/1: the mean wait is rate x E[S^2] / 2 (1 - utilisation)."""
    service = BatchService(latency_seconds=0.1, variation=0.5, deadline_seconds=30, overhead_seconds=0, batch=1)
    waited = mean(run(5, 1, service=service, seconds=10_000, seed=seed).mean_age for seed in range(12))
    assert waited == pytest.approx(5 * 0.1**2 * (1 + 0.5**2) / (2 * (1 - 0.5)), rel=0.03)


@pytest.mark.parametrize(("rate", "workers"), [(10, 20), (100, 12), (400, 60)])
def test_littles_law_holds_between_what_is_counted_and_how_long_it_stays(rate: float, workers: int) -> None:
    found = run(rate, workers, seconds=200)
    assert found.in_system == pytest.approx(found.little, rel=0.02)


@pytest.mark.parametrize("rate", [20, 200, 1000])
def test_paper_and_simulation_agree_on_busy_workers_and_on_the_size_of_batches(rate: float) -> None:
    plan = CapacityPlan(CapacityQuestion(rate=rate, retries=0))
    found = run(rate, plan.workers, seconds=60)
    busy = min(plan.workers, SERVICE.workers(rate, attempts=plan.attempts_per_batch))
    assert found.busy_workers == pytest.approx(busy, rel=0.1)
    assert found.attempts_per_batch == pytest.approx(plan.attempts_per_batch, rel=0.25)


@pytest.mark.parametrize("rate", [50, 500])
def test_the_backlog_is_stable_above_the_fewest_workers_of_the_paper_and_grows_below(rate: float) -> None:
    fewest = SERVICE.fewest_workers(rate)
    assert run(rate, round(fewest * 1.2), seconds=120).stable
    starved = run(rate, round(fewest * 0.8), seconds=120)
    assert not starved.stable
    assert starved.growth == pytest.approx(rate * (1 - round(fewest * 0.8) / fewest), rel=0.25)


def test_retries_come_back_as_attempts() -> None:
    load = QueueLoad(rate=100, retry_share=0.5, retry_seconds=1)
    found = simulate(load, SERVICE, free_at=[0.0] * 100, seconds=120, seed=1)
    assert found.attempts_per_second == pytest.approx(200, rel=0.05)


def test_the_backlog_of_a_beginning_is_that_of_the_simulation_with_workers_that_come_by_the_minute() -> None:
    plan = CapacityPlan(CapacityQuestion(rate=1000, retries=0))
    ramp = ramp_up(plan)
    come_at = [max(0.0, (worker - 5) / 5) for worker in range(plan.workers)]
    load = QueueLoad(rate=1000, **NO_RETRIES)
    found = simulate(load, plan.service, free_at=come_at, seconds=ramp.seconds, seed=1)
    span = ramp.seconds * 0.75  # the growth is that after the warm-up, in which 44 percent of it happens
    assert found.growth * span / (1 - (1 - 0.75**2)) == pytest.approx(ramp.waiting, rel=0.1)


# ---- what a rate needs -----------------------------------------------------------------------------------------------


def test_a_thousand_deliveries_a_second_by_hand() -> None:
    need = {key: demand.needed for key, demand in demands(1000).items()}
    assert need["api_requests"] == pytest.approx(2000, rel=1e-6)  # one created, one looked at
    assert need["ApiConcurrency"] == pytest.approx(200, rel=1e-6)  # ten requests for each, though 20 ms need 40
    assert need["AttemptConcurrency"] == pytest.approx(1050 / 10 * SERVICE.mean_seconds(10))
    assert need["nat_new_connections"] == pytest.approx(105)  # 1,050 to ten destinations from one address
    assert need["nat_connections"] == pytest.approx(1050 * 0.3 / 10, rel=1e-3)
    assert need["nat_bandwidth"] == pytest.approx(1050 * 13 * 1024 * 8 / 1e9)
    assert need["volume"] == pytest.approx(1000 * 730 * 3600 * 6 * 1024 / 2**40)
    plan = CapacityPlan(CapacityQuestion(rate=1000))
    statements = 2000 + 2 * 1050 / plan.attempts_per_batch + 5 / 60
    assert need["capacity_units"] == pytest.approx(statements * 3600 / 1e6 * 2.5, rel=1e-6)
    processes = sum(
        int(plan.settings[name]) for name in ("ApiConcurrency", "AuthorizeConcurrency", "AttemptConcurrency")
    )
    assert need["database_connections"] == 2 * processes + 20
    assert need["account_concurrency"] == processes + 5 + 100


def test_each_part_of_a_question_changes_what_depends_on_it() -> None:
    assert needed("AttemptConcurrency", latency_milliseconds=2500) > 8 * needed("AttemptConcurrency")
    assert needed("AttemptConcurrency", batch=1) == pytest.approx(1050 * 0.3, rel=1e-3)
    assert needed("volume", size=102_400) == pytest.approx(needed("volume") * 105 / 6)
    assert needed("nat_bandwidth", size=102_400) == pytest.approx(needed("nat_bandwidth") * 112 / 13)
    assert needed("nat_new_connections", retries=110) == pytest.approx(2 * needed("nat_new_connections"))
    assert needed("nat_new_connections", events=100) == pytest.approx(2 * needed("nat_new_connections"))
    assert needed("volume", events=50) == pytest.approx(1.5 * needed("volume"))
    assert needed("api_requests", events=100) == needed("api_requests")  # nobody calls for them
    assert needed("api_requests", looks=0) == pytest.approx(1000, rel=1e-6)
    assert needed("nat_new_connections", destinations=1, egress="per-az") == pytest.approx(525)
    assert needed("database_connections", proxy=True) < needed("database_connections") / 10
    assert "new_connections" not in demands(1000, proxy=True)


def test_a_design_without_the_internet_has_no_nat_gateway_and_a_vpn_its_bandwidth() -> None:
    inside = demands(100, topology="internal-only")
    assert not [key for key in inside if key.startswith(("nat", "vpn"))]
    vpn = (("CorporateCidr", "172.20.0.0/16"), ("CustomerGatewayAddress", "198.51.100.7"))
    assert "vpn_bandwidth" in demands(100, topology="internal-only", pinned=vpn)


def test_one_partner_takes_a_second_address_before_its_connections_give_out() -> None:
    assert CapacityPlan(CapacityQuestion(rate=500, destinations=1)).settings["Egress"] == "single"
    assert CapacityPlan(CapacityQuestion(rate=700, destinations=1)).settings["Egress"] == "per-az"


@pytest.mark.parametrize("topology", render.TOPOLOGIES)
@pytest.mark.parametrize("proxy", [False, True])
@pytest.mark.parametrize("rate", [1, 1000, 20_000])
def test_the_templates_accept_what_is_advised(topology: str, proxy: bool, rate: float) -> None:
    render.check(CapacityPlan(CapacityQuestion(rate=rate, topology=topology, proxy=proxy)).settings)


def test_what_is_given_is_not_chosen_and_limits_what_depends_on_it() -> None:
    question = CapacityQuestion(rate=1000, pinned=(("AttemptConcurrency", "40"), ("DatabaseMaxCapacity", "8")))
    assert CapacityPlan(question).settings["AttemptConcurrency"] == "40"
    found = {demand.key: demand for demand in CapacityPlan(question).demands()}
    assert found["AttemptConcurrency"].limit == 40
    assert found["AttemptConcurrency"].share > 1
    assert found["capacity_units"].limit == 8
    assert found["database_connections"].limit == 1669


def test_the_connections_of_a_capacity_are_those_that_the_templates_are_checked_with() -> None:
    assert CONNECTIONS == rules_functions.CONNECTIONS
    assert limits()["database_connections"].value == max(CONNECTIONS.values())
    assert limits()["database_connections_small"].value == rules_functions.CONNECTIONS_WHEN_SMALL
    assert assumptions()["versions_at_once"] == rules_functions.VERSIONS_AT_ONCE
    assert assumptions()["connections_kept_free"] == rules_functions.CONNECTIONS_KEPT_FREE


def test_what_is_assumed_of_the_templates_is_what_they_have() -> None:
    rendered = render.render({"DatabaseProxy": "yes", "DatabaseMinCapacity": "1", "ReserveConcurrency": "yes"})
    (mapping,) = rendered.of_type("AWS::Lambda::EventSourceMapping").values()
    assert mapping["Properties"]["BatchSize"] == CapacityQuestion(rate=1).batch
    (pool,) = rendered.of_type("AWS::RDS::DBProxyTargetGroup").values()
    percent = pool["Properties"]["ConnectionPoolConfigurationInfo"]["MaxConnectionsPercent"]
    assert percent == 100 * assumptions()["proxy_share"]
    functions = rendered.of_type("AWS::Lambda::Function").values()
    once = [function for function in functions if function["Properties"].get("ReservedConcurrentExecutions") == 1]
    assert len(once) == assumptions()["single_functions"]
    assert declared()["AttemptConcurrency"]["MaxValue"] == limits()["mapping_concurrency"].value


# ---- what gives out first --------------------------------------------------------------------------------------------


def test_a_bottleneck_is_at_its_limit_at_the_rate_that_it_carries() -> None:
    found = bottlenecks(CapacityQuestion(rate=10))
    rates = [bottleneck.carries for bottleneck in found if bottleneck.carries is not None]
    assert rates == sorted(rates)
    assert rates
    for bottleneck in found:
        if bottleneck.carries is not None:
            assert demands(bottleneck.carries)[bottleneck.demand.key].share == pytest.approx(1, abs=0.01)
        else:
            assert demands(HIGHEST_RATE)[bottleneck.demand.key].share <= 1


def test_the_account_is_the_first_quota_to_raise_and_the_way_in_the_next() -> None:
    first, *others = bottlenecks(CapacityQuestion(rate=10))
    assert first.demand.key == "account_concurrency"
    assert {found.demand.key for found in others[:2]} == {"api_requests", "ApiConcurrency"}
    one_partner = {found.demand.key: found.carries for found in bottlenecks(CapacityQuestion(rate=10, destinations=1))}
    assert one_partner["nat_new_connections"] == pytest.approx(2 * 900 / 1.05, rel=0.01)


def test_fuller_batches_save_more_of_the_time_of_functions_than_of_their_logs() -> None:
    single, full = (
        report.logs_to_time(report.bill_of(CapacityPlan(CapacityQuestion(rate=rate)))) for rate in (1, 1000)
    )
    assert 0 < single < full


def test_the_bill_is_that_of_the_rate() -> None:
    plan = CapacityPlan(CapacityQuestion(rate=1))
    assert plan.deliveries == 730 * 3600
    assert f"{total(report.bill_of(plan)):,.0f} dollars a month" in report.bill_in_words(plan)


# ---- the command and the page ----------------------------------------------------------------------------------------


def test_a_limit_names_its_page_and_where_it_was_read() -> None:
    for limit in limits().values():
        assert limit.page.startswith("https://docs.aws.amazon.com/"), limit
        assert limit.read is None or limit.read.startswith("https://"), limit


def test_one_rate_is_answered_with_bottlenecks_parameters_and_a_bill(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--rate=100"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "100 a second: carried. First bottleneck: Account, environments of Lambda at once" in told
    assert '"AttemptConcurrency=12",' in told
    assert "Bill: " in told
    assert "[1] https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html" in told
    assert "Nothing of this was exercised against AWS." in told


def test_a_size_of_batches_that_the_template_has_not_is_said_to_be_no_parameter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report.main(["--rate=20", "--batch=5"]) == 0
    assert "BATCH=5 has no parameter" in capsys.readouterr().out
    assert report.main(["--rate=20", "--batch=10"]) == 0
    assert "has no parameter" not in capsys.readouterr().out


def test_a_rate_that_is_too_high_for_given_parameters_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--rate=1000", "--set=AttemptConcurrency=40 DatabaseMaxCapacity=2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1,000 a second: too much for 3 of the limits." in told
    assert "grows by" in told
    assert "No bill: " in told


def test_a_design_of_its_own_is_not_advised_the_networks_of_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--rate=10", "--topology=on-premises"]) == 0
    told = capsys.readouterr().out
    assert '"Topology=on-premises",' in told
    assert "CorporateCidr" not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate=abc"], "RATE must be a whole number of deliveries a second from 1 to 20000, such as 1000; got 'abc'"),
        (["--rate=0"], "RATE must be"),
        (["--rate=-1"], "RATE must be"),
        (["--rate=1.5"], "RATE must be"),
        (["--rate=1000000000"], "from 1 to 20000"),
        (["--rate=" + "9" * 5000], "RATE must be"),
        (["--rate=10", "--latency=0"], "LATENCY must be a whole number of milliseconds"),
        (["--rate=10", "--size=4194305"], "SIZE must be a whole number of bytes of a body from 0 to 4194304"),
        (["--rate=10", "--batch=11"], "BATCH must be a whole number of attempts of a batch from 1 to 10"),
        (["--rate=10", "--destinations=0"], "DESTINATIONS must be"),
        (["--rate=10", "--retries=x"], "RETRIES must be"),
        (["--rate=10", "--seed=x"], "SEED must be"),
        (["--rate=10", "--topology=public"], "TOPOLOGY must be one of public-private, internet-accessible,"),
        (["--rate=10", "--egress=two"], "EGRESS must be one of single, per-az, regional; got 'two'"),
        (["--rate=10", "--topology=internal-only", "--egress=single"], "TOPOLOGY=internal-only has no EGRESS"),
        (["--latency=10"], "LATENCY needs a rate: RATE=1000"),
        (["--rate=10", "--set=WebAcl"], "SET takes parameters as Name=value"),
        (["--rate=10", "--set=Topology=on-premises"], "SET takes parameters as Name=value"),
        (["--rate=10", "--set=Firewall=yes"], "Firewall is not a parameter of template.yaml"),
        (["--rate=10", "--set=AttemptConcurrency=5000"], "AttemptConcurrency: must be a number from 2 to 1000"),
        (["--rate=10", "--set=DatabaseMinCapacity=4 DatabaseMaxCapacity=2"], "must not be below"),
    ],
)
def test_a_wrong_question_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_the_page_quotes_what_the_command_calculates(repository: Path) -> None:
    for page, block in report.quoted():
        assert block in (repository / page).read_text(encoding="utf-8"), "run make capacity WRITE=yes"
