"""What `make cost` adds up: by hand for single resources, and complete for every combination of the templates."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.metrics import Metric
from stack import render
from stack.cost import report
from stack.cost.bill import Month, Overloaded, Unpriced, bill, load_load, load_prices, total
from stack.quotations import MarksLost

PRICES = load_prices()
LOAD = load_load()
MILLION = 1_000_000
CLUSTER = {
    "Database.Cluster": {
        "Type": "AWS::RDS::DBCluster",
        "Properties": {
            "ServerlessV2ScalingConfiguration": {"MinCapacity": "0", "MaxCapacity": "2", "SecondsUntilAutoPause": "300"}
        },
    },
    "Database.Writer": {"Type": "AWS::RDS::DBInstance", "Properties": {"PubliclyAccessible": False}},
}
ALLOWED = [combination for combination in render.combinations() if combination.refused is None]


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def billed(resources: Mapping[str, Any], *, deliveries: int = 0) -> dict[str, float]:
    """Dollars by the name of the price."""
    names = {price.what: name for name, price in PRICES.prices.items()}
    lines = bill(resources, deliveries=deliveries, prices=PRICES, load=LOAD)
    return {names[line.price.what]: round(line.dollars, 4) for line in lines}


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_a_nat_gateway_and_its_address_cost_by_the_hour() -> None:
    stack = {
        "Network.NatGatewayA": resource("AWS::EC2::NatGateway", AllocationId="Network.EgressAddressA.AllocationId"),
        "Network.EgressAddressA": resource("AWS::EC2::EIP"),
    }
    assert billed(stack) == {"nat_gateway_hour": 32.85, "public_ipv4_hour": 3.65}


def test_a_regional_nat_gateway_costs_by_zone() -> None:
    zones = [{"AllocationIds": ["a"], "AvailabilityZone": "us-east-1a"}, {"AllocationIds": ["b"]}]
    stack = {"Network.RegionalNatGateway": resource("AWS::EC2::NatGateway", AvailabilityZoneAddresses=zones)}
    assert billed(stack) == {"regional_nat_gateway_zone_hour": 65.7}


def test_an_address_that_another_stack_made_is_billed_too() -> None:
    stack = {"Network.NatGatewayA": resource("AWS::EC2::NatGateway", AllocationId="eipalloc-0a1b2c3d")}
    assert billed(stack)["public_ipv4_hour"] == 3.65


def test_what_passes_the_nat_gateway_follows_from_the_attempts() -> None:
    stack = {"Network.NatGatewayA": resource("AWS::EC2::NatGateway", AllocationId="x")}
    told = billed(stack, deliveries=MILLION)
    # 1.05 million attempts of 3 KiB out, 7 KiB in and 3 KiB to the queue; half of it from the other zone
    assert told["nat_gateway_gb"] == round(1_050_000 * 13 / 2**20 * 0.045, 4)
    assert told["data_out_gb"] == round(1_050_000 * 3 / 2**20 * 0.09, 4)
    assert told["between_zones_gb"] == round(1_050_000 * 13 / 2**20 / 2 * 0.02, 4)


def test_an_interface_endpoint_costs_by_zone_and_takes_its_data_off_the_nat_gateway() -> None:
    endpoint = resource(
        "AWS::EC2::VPCEndpoint",
        VpcEndpointType="Interface",
        ServiceName="com.amazonaws.us-east-1.sqs",
        SubnetIds=["a", "b"],
    )
    stack = {"Network.NatGatewayA": resource("AWS::EC2::NatGateway", AllocationId="x"), "Network.SqsEndpoint": endpoint}
    told = billed(stack, deliveries=MILLION)
    assert told["interface_endpoint_hour"] == 14.6
    assert told["interface_endpoint_gb"] == round(1_050_000 * 3 / 2**20 * 0.01, 4)
    assert told["nat_gateway_gb"] == round(1_050_000 * 10 / 2**20 * 0.045, 4)


def test_a_gateway_endpoint_costs_nothing() -> None:
    stack = {"S3": resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Gateway", ServiceName="com.amazonaws.x.s3")}
    assert billed(stack, deliveries=MILLION) == {}


def test_a_private_api_costs_its_requests_and_the_data_of_its_endpoint_but_none_that_leaves_aws() -> None:
    endpoint = resource(
        "AWS::EC2::VPCEndpoint", VpcEndpointType="Interface", ServiceName="x.execute-api", SubnetIds=["a"]
    )
    told = billed({"Api": resource("AWS::ApiGateway::RestApi"), "Endpoint": endpoint}, deliveries=MILLION)
    assert told["rest_api_million"] == 7.0  # a million created, a million looked at
    assert told["interface_endpoint_gb"] == round(2 * MILLION * 4 / 2**20 * 0.01, 4)
    assert "data_out_gb" not in told


@pytest.mark.parametrize(("architecture", "dollars"), [("arm64", 0.0000133334), ("x86_64", 0.0000166667)])
def test_a_function_costs_by_its_memory_time_and_architecture(architecture: str, dollars: float) -> None:
    stack = {"AttemptFunction": resource("AWS::Lambda::Function", Architectures=[architecture], MemorySize=512)}
    told = billed(stack, deliveries=MILLION)
    # 300 ms each, and a start of 400 ms for one in two hundred
    assert told[f"lambda_{architecture}_gb_second"] == round(1_050_000 * 0.302 * 0.5 * dollars, 4)
    assert told["lambda_request_million"] == round(1.05 * 0.20, 4)


def test_a_scheduled_function_runs_whether_there_are_deliveries_or_not() -> None:
    stack = {
        "CheckEgressA.Function": resource("AWS::Lambda::Function", Architectures=["arm64"], MemorySize=256),
        "Alias": resource("AWS::Lambda::Alias", FunctionName="CheckEgressA.Function"),
        "Rule": resource("AWS::Events::Rule", ScheduleExpression="rate(5 minutes)", Targets=[{"Arn": "Alias"}]),
    }
    told = billed(stack)
    assert told["lambda_arm64_gb_second"] == round(8760 * 0.502 * 0.25 * 0.0000133334, 4)
    assert told["metric_month"] == 0.6


def test_a_database_that_pauses_is_awake_for_its_pause_after_each_delivery() -> None:
    told = billed(CLUSTER, deliveries=1000)
    assert told["aurora_capacity_unit_hour"] == round(1000 * 300 / 3600 * 0.5 * 0.12, 4)
    assert "aurora_capacity_unit_hour" not in billed(CLUSTER)


def test_a_database_that_does_not_pause_costs_its_least_capacity_for_each_instance() -> None:
    scaling = {"MinCapacity": 1, "MaxCapacity": 8}
    stack = {
        "Cluster": resource("AWS::RDS::DBCluster", ServerlessV2ScalingConfiguration=scaling),
        "Writer": resource("AWS::RDS::DBInstance"),
        "Reader": resource("AWS::RDS::DBInstance", PubliclyAccessible=True),
    }
    told = billed(stack)
    assert told["aurora_capacity_unit_hour"] == 175.2
    assert told["public_ipv4_hour"] == 3.65


def test_statements_take_capacity_and_too_many_of_them_are_refused() -> None:
    # 100 million created, looked at, two statements for each of 105 million attempts, and 219,000 tokens checked
    statements = 100 + 100 + 210 + 0.219
    assert billed(CLUSTER, deliveries=100 * MILLION)["aurora_capacity_unit_hour"] == round(statements * 2.5 * 0.12, 4)
    with pytest.raises(Overloaded, match="raise DatabaseMaxCapacity"):
        billed(CLUSTER, deliveries=1000 * MILLION)


def test_a_queue_costs_its_empty_receives_and_three_requests_for_each_attempt() -> None:
    told = billed({"WakeupQueue": resource("AWS::SQS::Queue")}, deliveries=MILLION)
    assert told["sqs_request_million"] == round((15 * 60 * 730 + 3 * 1_050_000) / 1e6 * 0.4, 4)
    assert told["sqs_fair_million"] == round(1.05 * 0.1, 4)


def test_an_event_is_a_delivery_that_nobody_calls_for() -> None:
    stack = {
        "WakeupQueue": resource("AWS::SQS::Queue"),
        "Api": resource("AWS::ApiGateway::RestApi"),
        **CLUSTER,
    }
    told = Month(resources=stack, deliveries=MILLION, hours=730, load=LOAD | {"events_per_delivery": 1.0})
    untold = Month(resources=stack, deliveries=MILLION, hours=730, load=LOAD)
    assert (told.attempts, told.requests) == (2 * untold.attempts, untold.requests)
    assert told.statements - untold.statements == 2 * untold.batches
    assert (told.on_bus, untold.on_bus) == (0, 0)


def test_an_event_on_the_bus_costs_its_price_a_message_and_a_statement() -> None:
    worker = resource("AWS::Lambda::Function", Environment={"Variables": {"EVENT_BUS_NAME": "orders"}})
    endpoint = resource(
        "AWS::EC2::VPCEndpoint",
        VpcEndpointType="Interface",
        ServiceName="com.amazonaws.us-east-1.events",
        SubnetIds=[1],
    )
    stack = {"AttemptFunction": worker, **CLUSTER}
    load = LOAD | {"events_per_delivery": 1.0}
    month = Month(resources=stack, deliveries=MILLION, hours=730, load=load)
    assert month.on_bus == MILLION
    assert month.statements == 3 * MILLION + 730 * 60 * 5 + 2 * month.batches
    lines = {line.price.what: line.dollars for line in bill(stack, deliveries=MILLION, prices=PRICES, load=load)}
    assert lines["EventBridge, events put on a bus of one's own"] == 1.0
    inside = Month(resources=stack | {"E": endpoint}, deliveries=MILLION, hours=730, load=load)
    assert month.through_nat - inside.through_nat == month.to_bus > 0


def test_alarms_cost_by_metric_and_a_web_acl_by_rule() -> None:
    stack = {
        "Plain": resource("AWS::CloudWatch::Alarm", MetricName="Errors"),
        "Ratio": resource("AWS::CloudWatch::Alarm", Metrics=[{"MetricStat": 1}, {"MetricStat": 2}, {"Expression": 3}]),
        "WebAcl": resource("AWS::WAFv2::WebACL", Rules=[1, 2, 3]),
    }
    told = billed(stack, deliveries=MILLION)
    assert (told["alarm_month"], told["web_acl_month"], told["web_acl_rule_month"]) == (0.3, 5.0, 3.0)


def test_a_log_of_blocked_requests_costs_nothing_and_one_of_all_requests_does() -> None:
    blocked = resource("AWS::WAFv2::LoggingConfiguration", LoggingFilter={"DefaultBehavior": "DROP"})
    assert billed({"Log": blocked}, deliveries=MILLION) == {}
    told = billed({"Log": resource("AWS::WAFv2::LoggingConfiguration")}, deliveries=MILLION)
    assert told == {"log_gb": round(2 * MILLION * LOAD["access_log_kib"] / 2**20 * 0.5, 4)}


def test_a_vpn_costs_its_hours_and_two_addresses() -> None:
    assert billed({"Vpn": resource("AWS::EC2::VPNConnection")}) == {
        "vpn_connection_hour": 36.5,
        "vpn_tunnel_address_hour": 7.3,
    }


def test_logs_cost_what_is_written_for_each_call_and_not_the_same_for_all() -> None:
    functions = ("ApiFunction", "AuthorizeFunction", "AttemptFunction")
    written = {
        name: billed({name: resource("AWS::Lambda::Function")}, deliveries=MILLION)["log_gb"] for name in functions
    }
    # two requests for each delivery, one of which writes lines; 219,000 tokens; 1.05 attempts in batches of one
    own = LOAD["log_bytes_per_invocation"]
    api = 2 * MILLION * own + MILLION * LOAD["log_bytes_per_post"]
    attempts = 1_050_000 * (own + LOAD["log_bytes_per_attempt"] + LOAD["log_bytes_per_batch"])
    assert written["ApiFunction"] == round(api / 2**30 * 0.5, 4)
    assert written["AuthorizeFunction"] == round(219_000 * own / 2**30 * 0.5, 4)
    assert written["AttemptFunction"] == round(attempts / 2**30 * 0.5, 4)


def test_what_has_no_price_is_named() -> None:
    with pytest.raises(Unpriced, match=r"Extra is a AWS::EC2::TransitGateway"):
        billed({"Extra": resource("AWS::EC2::TransitGateway")})
    with pytest.raises(Unpriced, match="SweepFunction"):
        billed({"SweepFunction": resource("AWS::Lambda::Function")})
    with pytest.raises(Unpriced, match=r"t3\.large"):
        billed({"Bastion": resource("AWS::EC2::Instance", InstanceType="t3.large")})
    with pytest.raises(Unpriced, match=r"cron\(0 3"):
        billed(
            {
                "AdminFunction": resource("AWS::Lambda::Function"),
                "Rule": resource(
                    "AWS::Events::Rule", ScheduleExpression="cron(0 3 * * ? *)", Targets=[{"Arn": "AdminFunction.Arn"}]
                ),
            }
        )


def test_a_function_that_runs_otherwise_than_the_table_says_is_not_billed_as_nothing() -> None:
    with pytest.raises(Unpriced, match=r"CheckEgressA\.Function: no schedule"):
        billed({"CheckEgressA.Function": resource("AWS::Lambda::Function")})
    hourly = resource("AWS::Events::Rule", ScheduleExpression="rate(1 hour)", Targets=[{"Arn": "AdminFunction.Arn"}])
    with pytest.raises(Unpriced, match=r"AdminFunction: stack/functions\.py does not say that it runs by the clock"):
        billed({"AdminFunction": resource("AWS::Lambda::Function"), "Rule": hourly})


def test_the_sum_is_the_sum_of_the_lines() -> None:
    stack = CLUSTER | {"WakeupQueue": resource("AWS::SQS::Queue")}
    lines = bill(stack, deliveries=MILLION, prices=PRICES, load=LOAD)
    assert total(lines) == pytest.approx(sum(line.quantity * line.price.dollars for line in lines))
    doubled = replace(lines[0], quantity=lines[0].quantity * 2)
    assert total([doubled, *lines[1:]]) == pytest.approx(total(lines) + lines[0].dollars)


# ---- the templates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combination", ALLOWED, ids=lambda combination: combination.name)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"Bastion": "yes", "WebAcl": "yes", "SnapStart": "yes", "Tracing": "xray"},
        {"Bastion": "yes", "Architecture": "x86_64"},
    ],
)
def test_every_resource_is_priced_or_free(combination: render.Combination, settings: dict[str, str]) -> None:
    resources = render.render({**combination.parameters, **settings}).resources
    lines = bill(resources, deliveries=MILLION, prices=PRICES, load=LOAD)
    priced = {line.price.what for line in lines}
    assert {"REST API, requests", "Aurora, capacity", "SQS, requests"} <= priced
    assert all(line.dollars > 0 for line in lines)


def test_a_price_says_where_it_was_read_or_is_marked() -> None:
    for price in PRICES.prices.values():
        assert price.page.startswith("https://aws.amazon.com/"), price
        assert price.read is None or price.read.startswith("https://"), price


def test_a_line_of_the_access_log_is_as_long_as_its_format_with_values() -> None:
    values = {
        "requestId": "6d9f1a9c-0b5e-4a5d-9d65-0d5c0f9e2a11",
        "requestTimeEpoch": "1795780800000",
        "identity.sourceIp": "198.51.100.100",
        "tlsVersion": "TLSv1.3",
        "httpMethod": "POST",
        "resourcePath": "/v1/{proxy+}",
        "status": "202",
        "responseLength": "1024",
        "responseLatency": "25",
        "integrationLatency": "20",
        "authorizer.latency": "12",
        "authorizer.tenant_id": "0198f2c4-6f6e-7b5a-8c3d-2a1b0c9d8e7f",
        "error.responseType": "-",
    }
    (stage,) = render.render().of_type("AWS::ApiGateway::Stage").values()
    line = re.sub(
        r"\$context\.([\w.]+)", lambda found: values[found[1]], stage["Properties"]["AccessLogSetting"]["Format"]
    )
    assert LOAD["access_log_kib"] == pytest.approx((len(line) + 26) / 1024, abs=0.01)


def test_the_metrics_in_use_are_those_that_the_functions_count() -> None:
    with_every_delivery = [name for name in Metric if name.value.startswith(("Deliveries", "Attempts"))]
    assert LOAD["metrics_in_use"] == len(with_every_delivery)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_choice_that_the_rules_allow(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([]) == 0
    told = capsys.readouterr().out
    assert [row.topology for row in report.rows(PRICES)] == [
        *["public-private"] * 3,
        *["internet-accessible"] * 3,
        *["on-premises"] * 3,
        "internal-only",
    ]
    assert "internal-only" in told
    assert "stack/cost/prices.toml" in told


def test_a_bill_without_internet_access_names_no_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--topology", "internal-only"]) == 0
    assert "internal-only, none, dev: 0 deliveries a month" in capsys.readouterr().out


def test_one_bill_shows_its_lines_and_marks_prices_without_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--topology", "on-premises", "--egress", "per-az", "--stage", "prod", "--deliveries", "1000000", "--free"]
    assert report.main(asked) == 0
    told = capsys.readouterr().out
    assert "Logs, kept *" in told
    assert "REST API, requests " in told
    assert "AWS::EC2::VPC" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--topology", "public"], "TOPOLOGY must be one of public-private,"),
        (["--egress", "two"], "EGRESS must be one of single, per-az, regional; got 'two'"),
        (["--stage", "test"], "STAGE must be one of dev, staging, prod; got 'test'"),
        (
            ["--deliveries", "1e6"],
            "DELIVERIES must be a whole number of deliveries a month, such as 1000000; got '1e6'",
        ),
        (["--deliveries", "-1"], "DELIVERIES must be"),
        (["--deliveries", "9000000000"], "raise DatabaseMaxCapacity"),
        (["--set", "WebAcl"], "SET takes parameters as Name=value"),
        (["--set", "Topology=on-premises"], "SET takes parameters as Name=value"),
        (["--set", "WebAcl=perhaps"], "WebAcl"),
        (["--set", "Firewall=yes"], "Firewall is not a parameter"),
        (["--topology", "internal-only", "--egress", "per-az"], "Leave Egress at its default"),
        (["--topology", "internet-accessible", "--stage", "prod"], "is not for"),
    ],
)
def test_a_wrong_choice_is_refused_in_words(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([f"{name}={value}" for name, value in zip(arguments[::2], arguments[1::2], strict=True)]) == 2
    assert words in capsys.readouterr().err


def test_what_is_free_is_told_of_the_default_where_no_bill_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--free"]) == 0
    assert "Costs nothing" in capsys.readouterr().out


def test_what_the_pages_quote_is_renewed_between_its_marks(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "docs").mkdir()
    for page in ("docs/costs.md",):
        text = (repository / page).read_text(encoding="utf-8")
        (tmp_path / page).write_text(text.replace("| on-premises |", "| elsewhere |").replace("| 1.05 |", "| 9 |"))
    assert report.write_quoted(PRICES, tmp_path) == ["docs/costs.md"]
    for page, block in report.quoted(PRICES):
        assert block in (tmp_path / page).read_text(encoding="utf-8")
    assert "elsewhere" not in (tmp_path / "docs/costs.md").read_text(encoding="utf-8")
    (tmp_path / "docs/costs.md").write_text("# Costs\n")
    with pytest.raises(MarksLost, match=r"docs/costs\.md has lost its marks"):
        report.write_quoted(PRICES, tmp_path)


def test_the_command_ends_with_2_and_no_traceback(repository: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "stack.cost", "--stage=test"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "STAGE must be one of dev, staging, prod; got 'test'\n"


def test_dev_costs_more_than_prod_at_a_million_deliveries_for_the_reasons_that_the_page_gives() -> None:
    """One alarm more, and logs that are kept for less long; the rest is the same to the cent."""
    dev, prod = (report._resources("public-private", "single", stage) for stage in ("dev", "prod"))
    assert set(dev) - set(prod) == {"Observability.DatabaseResumeAlarm"}
    assert set(prod) - set(dev) == set()
    lines = report.stages(load_prices()).splitlines()[2:]
    assert [line.split(" | ")[0].strip("| ") for line in lines[:-1]] == ["Logs, kept", "Alarm, each metric"]
    dollars = [[float(cell) for cell in line.strip("| ").split(" | ")[1:]] for line in lines]
    (less, more), (alarm, without), (total, of_prod) = dollars
    assert less < more
    assert alarm - without == pytest.approx(3 * load_prices().prices["alarm_month"].dollars)
    assert total > of_prod
    assert total - of_prod == pytest.approx((less - more) + (alarm - without), abs=0.02)
