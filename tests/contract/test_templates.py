"""The stack keeps its rules, and each rule notices the stacks that break it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.contract import rules_api, rules_functions, rules_network, rules_templates
from tests.contract.project import APPLICATION, DATABASE, NETWORK, OBSERVABILITY, Project, load, reworded

type Rule = Callable[[Project], list[str]]
type Change = Callable[[Project], Project]

RULES: list[Rule] = [*rules_network.RULES, *rules_functions.RULES, *rules_api.RULES, *rules_templates.RULES]
PROJECT = load()


def resource(template: str, name: str, old: str, new: str) -> Change:
    """A change to the text of one resource, parameter or output of a template."""

    def change(project: Project) -> Project:
        text = project.texts[template]
        start = text.index(f"\n  {name}:\n")
        assert old in text[start:], f"{name} no longer has: {old}"
        changed = text[:start] + text[start:].replace(old, new, 1)
        return replace(project, texts={**project.texts, template: changed})

    return change


def without(template: str, name: str) -> Change:
    """A template without one resource."""

    def change(project: Project) -> Project:
        text = project.texts[template]
        start = text.index(f"\n  {name}:\n") + 1
        rest = text[start:].splitlines(keepends=True)
        after = next(place for place, line in enumerate(rest[1:], 1) if line.strip() and not line.startswith("   "))
        return replace(project, texts={**project.texts, template: text[:start] + "".join(rest[after:])})

    return change


def added(template: str, section: str, text: str) -> Change:
    """A template with one more entry at the start of a section."""
    return reworded(template, f"\n{section}:\n", f"\n{section}:\n{text}\n")


def event_files(*names: str) -> Change:
    """Other event files."""
    return lambda project: replace(project, events=names)


def samconfig(old: str, new: str) -> Change:
    """A change to samconfig.toml."""

    def change(project: Project) -> Project:
        assert old in project.samconfig, f"samconfig.toml no longer has: {old}"
        return replace(project, samconfig=project.samconfig.replace(old, new, 1))

    return change


def makefile(old: str, new: str) -> Change:
    """A change to src/Makefile."""
    return lambda project: replace(project, makefile=project.makefile.replace(old, new))


def requirements(text: str) -> Change:
    """Another src/requirements.txt."""
    return lambda project: replace(project, requirements=text)


OPEN_DATABASE_ROUTE = """
  DatabaseDefaultRoute:
    Type: AWS::EC2::Route
    Properties:
      RouteTableId: !Ref DatabaseRouteTable
      DestinationCidrBlock: 0.0.0.0/0
      NatGatewayId: !Ref NatGateway
"""
OPEN_DATABASE_INGRESS = """
  DatabaseFromAnywhereIngress:
    Type: AWS::EC2::SecurityGroupIngress
    Properties:
      GroupId: !GetAtt DatabaseSecurityGroup.GroupId
      IpProtocol: tcp
      FromPort: 5432
      ToPort: 5432
      CidrIp: 0.0.0.0/0
"""
DATABASE_EGRESS = """
  DatabaseEgress:
    Type: AWS::EC2::SecurityGroupEgress
    Properties:
      GroupId: !GetAtt DatabaseSecurityGroup.GroupId
      IpProtocol: tcp
      FromPort: 443
      ToPort: 443
      CidrIp: 0.0.0.0/0
"""
FUNCTION_INGRESS = """
  FunctionIngress:
    Type: AWS::EC2::SecurityGroupIngress
    Properties:
      GroupId: !GetAtt FunctionSecurityGroup.GroupId
      IpProtocol: tcp
      FromPort: 443
      ToPort: 443
      CidrIp: 10.0.0.0/8
"""
IPV6_WAY = """
  Ipv6Way:
    Type: AWS::EC2::EgressOnlyInternetGateway
    Properties:
      VpcId: !Ref Vpc
"""
FUNCTION_URL = """
  AdminUrl:
    Type: AWS::Lambda::Url
    Properties:
      AuthType: NONE
      TargetFunctionArn: !GetAtt AdminFunction.Arn
"""
ADMIN_PERMISSION = """
  AdminPermission:
    Type: AWS::Lambda::Permission
    Properties:
      Action: lambda:InvokeFunction
      FunctionName: !Ref AdminFunction
      Principal: apigateway.amazonaws.com
"""
BUCKET = """
  Bucket:
    Type: AWS::S3::Bucket
"""
OPEN_QUEUE = """
  OpenQueue:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref WakeupQueue]
      PolicyDocument:
        Statement:
          - Effect: Allow
            Principal: '*'
            Action: sqs:SendMessage
            Resource: !GetAtt WakeupQueue.Arn
            Condition: {}
"""
UNLIMITED = """
  Anything:
    Type: String
    Description: Anything at all
"""
PASSWORD = """
  DatabasePassword:
    Type: String
    Description: The password
    Default: hunter2hunter2
    MinLength: 8
"""

BROKEN: dict[Rule, list[Change]] = {
    # ---- the network
    rules_network.subnets_do_not_overlap_and_lie_in_the_vpc: [
        resource(NETWORK, "PrivateSubnetB", "[5,", "[4,"),
        reworded(NETWORK, "!Select [8, !Cidr [!GetAtt Vpc.CidrBlock, 10, 8]]", "10.65.0.0/24"),
        reworded(NETWORK, "[4, !Cidr [!GetAtt Vpc.CidrBlock, 10, 8]]", "[0, !Cidr [!GetAtt Vpc.CidrBlock, 1, 10]]"),
    ],
    rules_network.each_role_spans_two_zones: [
        resource(NETWORK, "DatabaseSubnetB", "[1, !GetAZs", "[0, !GetAZs"),
        resource(NETWORK, "PrivateSubnetB", "[1, !GetAZs", "[0, !GetAZs"),
    ],
    rules_network.every_subnet_has_one_route_table: [
        without(NETWORK, "PrivateSubnetBRouteTableAssociation"),
        without(NETWORK, "DatabaseSubnetARouteTableAssociation"),
    ],
    rules_network.no_route_leads_out_of_the_database_subnets: [
        added(NETWORK, "Resources", OPEN_DATABASE_ROUTE),
        resource(NETWORK, "S3Endpoint", "!Ref PrivateRouteTable", "!Ref DatabaseRouteTable"),
        resource(NETWORK, "DatabaseSubnetBRouteTableAssociation", "!Ref DatabaseRouteTable", "!Ref PrivateRouteTable"),
    ],
    rules_network.private_subnets_leave_by_the_nat_gateway_alone: [
        resource(NETWORK, "PrivateDefaultRoute", "NatGatewayId: !Ref NatGateway", "GatewayId: !Ref InternetGateway"),
        resource(NETWORK, "PrivateSubnetARouteTableAssociation", "!Ref PrivateRouteTable", "!Ref PublicRouteTable"),
        resource(NETWORK, "NatGateway", "!Ref PublicSubnetA", "!Ref PrivateSubnetA"),
    ],
    rules_network.published_addresses_are_those_of_the_nat_gateways: [
        resource(NETWORK, "NatGateway", "!GetAtt EgressAddress.AllocationId", "eipalloc-0123"),
        resource(NETWORK, "EgressAddresses", "!GetAtt PrivateSubnetB", "!GetAtt PrivateSubnetA"),
        resource(NETWORK, "FixedAddresses", "EgressAddress.PublicIp", "Vpc.CidrBlock"),
    ],
    rules_network.fixed_addresses_outlive_the_stack: [
        reworded(NETWORK, "RetainExceptOnCreate\n", "Delete\n"),
        reworded(NETWORK, "    UpdateReplacePolicy: Retain\n", ""),
    ],
    rules_network.only_functions_reach_the_database_and_only_on_5432: [
        added(NETWORK, "Resources", OPEN_DATABASE_INGRESS),
        resource(NETWORK, "DatabaseFromFunctionIngress", "ToPort: 5432", "ToPort: 5433"),
        resource(
            NETWORK, "DatabaseFromFunctionIngress", "!GetAtt FunctionSecurityGroup.GroupId", "sg-0123456789abcdef0"
        ),
        without(NETWORK, "DatabaseFromFunctionIngress"),
        resource(
            NETWORK,
            "DatabaseSecurityGroup",
            "      SecurityGroupEgress:",
            "      SecurityGroupIngress:\n        - {IpProtocol: '-1', CidrIp: 0.0.0.0/0}\n      SecurityGroupEgress:",
        ),
    ],
    rules_network.the_database_group_opens_nothing_outwards: [
        resource(NETWORK, "DatabaseSecurityGroup", "127.0.0.1/32", "0.0.0.0/0"),
        resource(
            NETWORK,
            "DatabaseSecurityGroup",
            "      SecurityGroupEgress:\n        - {IpProtocol: '-1', CidrIp: 127.0.0.1/32,",
            "      Tags:\n        - {Key: None, Value: None,",
        ),
        added(NETWORK, "Resources", DATABASE_EGRESS),
    ],
    rules_network.functions_let_nothing_in_and_out_only_what_is_allowed: [
        added(NETWORK, "Resources", FUNCTION_INGRESS),
        reworded(NETWORK, "FromPort: 8443, ToPort: 8443", "FromPort: 8443, ToPort: 9443"),
        reworded(APPLICATION, "ALLOWED_PORTS: 80,443,8080,8443", "ALLOWED_PORTS: 80,443", count=2),
        without(NETWORK, "FunctionToDatabaseEgress"),
    ],
    rules_network.everything_in_the_vpc_names_its_security_group: [
        reworded(APPLICATION, "      SecurityGroupIds: [!GetAtt Network.Outputs.FunctionSecurityGroupId]\n", ""),
        reworded(DATABASE, "      VpcSecurityGroupIds:\n        - !Ref SecurityGroupId\n", ""),
    ],
    rules_network.no_way_round_the_nat_gateway: [
        added(NETWORK, "Resources", IPV6_WAY),
        resource(NETWORK, "PrivateSubnetA", "MapPublicIpOnLaunch: false", "MapPublicIpOnLaunch: true"),
        reworded(APPLICATION, "    VpcConfig:\n", "    VpcConfig:\n      Ipv6AllowedForDualStack: true\n"),
    ],
    rules_network.functions_and_database_stand_in_their_own_subnets: [
        reworded(APPLICATION, "Network.Outputs.PrivateSubnetIds", "Network.Outputs.DatabaseSubnetIds"),
        resource(APPLICATION, "Database", "Network.Outputs.DatabaseSubnetIds", "Network.Outputs.PrivateSubnetIds"),
    ],
    # ---- functions, roles, queues and logs
    rules_functions.every_handler_exists: [
        reworded(APPLICATION, "handlers.attempt.handler", "handlers.attempts.handler"),
        reworded(APPLICATION, "handlers.attempt.handler", "handlers.attempt.handle"),
    ],
    rules_functions.code_and_nested_templates_exist: [
        reworded(APPLICATION, "CodeUri: src", "CodeUri: source"),
        reworded(APPLICATION, "infra/observability.yaml", "infra/alarms.yaml"),
    ],
    rules_functions.every_function_has_an_event_and_every_event_a_function: [
        event_files("admin.json", "api-get.json", "attempt.json", "authorize.json"),
        event_files(*PROJECT.events, "sweep.json"),
    ],
    rules_functions.every_function_can_be_built: [
        makefile("build-AdminFunction", "build-OtherFunction"),
        resource(APPLICATION, "AdminFunction", "    Metadata: {BuildMethod: makefile, WorkingDirectory: .}\n", ""),
        reworded(APPLICATION, "Architectures: [!Ref Architecture]", "Architectures: [x86_64]"),
    ],
    rules_functions.what_ships_is_pinned: [
        requirements("msgspec>=0.20\n"),
    ],
    rules_functions.environment_is_what_the_settings_read: [
        resource(APPLICATION, "AttemptFunction", "          BLOCKED_CIDRS: !GetAtt Network.Outputs.VpcCidr\n", ""),
        reworded(APPLICATION, "DATABASE_HOST:", "DB_HOST:"),
        resource(APPLICATION, "AdminFunction", "DATABASE_USER:", "DEBUG: 'yes'\n          DATABASE_USER:"),
    ],
    rules_functions.environment_says_where_things_are: [
        resource(APPLICATION, "AdminFunction", "DATABASE_USER: sallyport_admin", "DATABASE_USER: sallyport_app"),
        resource(APPLICATION, "AttemptFunction", "!GetAtt Network.Outputs.VpcCidr", "10.0.0.0/16"),
    ],
    rules_functions.roles_allow_exactly_what_is_used: [
        resource(APPLICATION, "ApiRole", "sqs:SendMessage", "sqs:*"),
        resource(APPLICATION, "ApiRole", "Resource: !GetAtt WakeupQueue.Arn", "Resource: '*'"),
        resource(APPLICATION, "AttemptRole", "'sqs:DeleteMessage', ", ""),
        resource(APPLICATION, "AuthorizeRole", "/sallyport_authorizer", "/*"),
        resource(
            APPLICATION, "AdminRole", "[!Ref NetworkInterfacePolicy]", "['arn:aws:iam::aws:policy/AdministratorAccess']"
        ),
    ],
    rules_functions.functions_do_not_share_roles: [
        resource(APPLICATION, "AdminFunction", "!GetAtt AdminRole.Arn", "!GetAtt ApiRole.Arn"),
        resource(APPLICATION, "AdminRole", "{Service: lambda.amazonaws.com}", "{AWS: '*'}"),
    ],
    rules_functions.code_cannot_touch_network_interfaces: [
        resource(APPLICATION, "NetworkInterfacePolicy", "'false'", "'true'"),
        resource(
            APPLICATION,
            "NetworkInterfacePolicy",
            "              - ec2:DescribeSubnets\n",
            "              - ec2:RunInstances\n",
        ),
    ],
    rules_functions.every_wildcard_has_its_reason_beside_it: [
        reworded(APPLICATION, "  # the interfaces do not exist yet, and the Describe actions know no resources", ""),
        resource(APPLICATION, "AdminRole", "Action: rds-db:connect", "Action: rds-db:*"),
    ],
    rules_functions.every_function_has_a_log_group_of_its_own: [
        resource(APPLICATION, "AdminFunction", "!Ref AdminLogGroup", "!Ref ApiLogGroup"),
    ],
    rules_functions.every_log_group_ends: [
        resource(APPLICATION, "ApiLogGroup", "      RetentionInDays: !Ref LogRetentionDays\n", ""),
        resource(DATABASE, "InstanceLogGroup", "      RetentionInDays: !Ref LogRetentionDays\n", ""),
    ],
    rules_functions.wakeups_outlive_their_workers: [
        resource(APPLICATION, "WakeupQueue", "VisibilityTimeout: 270", "VisibilityTimeout: 60"),
        resource(APPLICATION, "AttemptFunction", "Timeout: 45", "Timeout: 50"),
        resource(APPLICATION, "DeadLetterQueue", "1209600", "345600"),
        resource(APPLICATION, "WakeupQueue", "!GetAtt DeadLetterQueue.Arn", "arn:aws:sqs:us-east-1:555555555555:other"),
        resource(APPLICATION, "ApiFunction", "Timeout: 29", "Timeout: 20"),
        resource(APPLICATION, "AttemptFunction", "LEASE_SECONDS: '55'", "LEASE_SECONDS: '30'"),
    ],
    rules_functions.the_queue_feeds_the_worker_without_loss: [
        reworded(APPLICATION, "            FunctionResponseTypes: [ReportBatchItemFailures]\n", ""),
        reworded(APPLICATION, "BatchSize: 10", "BatchSize: 1"),
        reworded(APPLICATION, "      RecursiveLoop: Allow", "      RecursiveLoop: Terminate"),
        reworded(APPLICATION, "MaximumConcurrency: !Ref AttemptConcurrency", "MaximumConcurrency: 100"),
    ],
    rules_functions.connections_stay_below_the_databases_limit: [
        samconfig("DatabaseMaxCapacity=8", "DatabaseMaxCapacity=1"),
        resource(APPLICATION, "ApiConcurrency", "Default: 40", "Default: 200"),
        resource(
            APPLICATION,
            "AdminFunction",
            "      ReservedConcurrentExecutions: !If [ReservesConcurrency, 1, !Ref AWS::NoValue]\n",
            "",
        ),
    ],
    rules_functions.the_migration_gates_what_uses_the_schema: [
        resource(APPLICATION, "ApiFunction", "    DependsOn: Migration\n", ""),
        resource(APPLICATION, "AuthorizeFunction", "    DependsOn: Migration\n", ""),
        reworded(APPLICATION, "LatestMigration: 0002_authorizer_and_people", "LatestMigration: 0000_nothing"),
        resource(
            APPLICATION, "Migration", "      DbClusterResourceId: !GetAtt Database.Outputs.DbClusterResourceId\n", ""
        ),
        resource(APPLICATION, "Migration", "ServiceTimeout: 600", "ServiceTimeout: 60"),
    ],
    # ---- the API
    rules_api.every_v1_route_asks_the_authorizer_and_no_open_one_does: [
        reworded(APPLICATION, "Path: '/v1/{proxy+}'", "Path: '/v1/{proxy+}', Auth: {Authorizer: NONE}"),
        reworded(APPLICATION, "Path: /healthz, Auth: {Authorizer: NONE}", "Path: /healthz"),
        reworded(APPLICATION, "Path: /docs, Auth", "Path: /v1/docs, Auth"),
        reworded(APPLICATION, "Path: '/v1/{proxy+}'", "Path: '/v2/{proxy+}'"),
    ],
    rules_api.the_authorizer_sees_each_token_at_least_once_a_minute: [
        reworded(APPLICATION, "ReauthorizeEvery: 60", "ReauthorizeEvery: 3600"),
        reworded(APPLICATION, "Headers: [Authorization]", "Headers: [X-Token]"),
        reworded(APPLICATION, "FunctionArn: !GetAtt AuthorizeFunction.Arn", "FunctionArn: !GetAtt AdminFunction.Arn"),
    ],
    rules_api.functions_without_a_route_have_no_caller: [
        added(APPLICATION, "Resources", FUNCTION_URL),
        added(APPLICATION, "Resources", ADMIN_PERMISSION),
    ],
    rules_api.gateway_responses_are_problems: [
        resource(APPLICATION, "Api", "        THROTTLED:", "        WAF_FILTERED:"),
        reworded(APPLICATION, "application/problem+json", "application/json"),
        reworded(APPLICATION, '"status": 413,', '"status": 413'),
        reworded(APPLICATION, '"status": 413,', '"status": 400,'),
        reworded(APPLICATION, "problem:too-large", "problem:large"),
        reworded(APPLICATION, "              Retry-After: \"'5'\"\n", ""),
    ],
    rules_api.logs_hold_no_body_path_or_token: [
        reworded(APPLICATION, "$context.resourcePath", "$context.path"),
        reworded(APPLICATION, "LoggingLevel: 'OFF'", "LoggingLevel: INFO"),
        reworded(APPLICATION, "DataTraceEnabled: false", "DataTraceEnabled: true"),
        reworded(APPLICATION, "TracingEnabled: false", "TracingEnabled: true"),
    ],
    rules_api.the_stage_is_throttled: [
        reworded(APPLICATION, "          ThrottlingRateLimit: !Ref ThrottleRate\n", ""),
        reworded(APPLICATION, "HttpMethod: '*'", "HttpMethod: GET"),
    ],
    rules_api.bodies_arrive_as_bytes_over_current_tls: [
        reworded(APPLICATION, "['*~1*']", "['image~1png']"),
        reworded(APPLICATION, "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09", "TLS_1_0"),
        reworded(APPLICATION, "{Type: REGIONAL}", "{Type: EDGE}"),
    ],
    rules_api.only_the_worker_names_the_api_among_blocked_hosts: [
        reworded(APPLICATION, "${Api}.execute-api", "api.execute-api"),
    ],
    # ---- templates, and the database's in particular
    rules_templates.everything_is_described: [
        resource(NETWORK, "VpcId", "    Description: The VPC\n", ""),
        resource(
            DATABASE, "SubnetIds", "    Description: Database subnets", "    ConstraintDescription: Database subnets"
        ),
    ],
    rules_templates.every_parameter_is_limited: [
        added(APPLICATION, "Parameters", UNLIMITED),
    ],
    rules_templates.nested_templates_get_what_they_ask_for: [
        resource(APPLICATION, "Database", "        MinCapacity: !Ref DatabaseMinCapacity\n", ""),
        resource(APPLICATION, "Network", "        VpcCidr: !Ref VpcCidr\n", "        Cidr: !Ref VpcCidr\n"),
        without(NETWORK, "VpcCidr"),
    ],
    rules_templates.nested_parameters_say_the_same_as_ours: [
        reworded(NETWORK, "ConstraintDescription: must be an RFC 1918", "ConstraintDescription: must be a private"),
        resource(APPLICATION, "LogRetentionDays", "[1, 3, 5, 7,", "[1, 3, 7,"),
    ],
    rules_templates.stages_are_deployable: [
        samconfig("Stage=prod", "Stage=production"),
        samconfig("ThrottleRate=500", "ThrottleSpeed=500"),
        samconfig("DatabaseMinCapacity=0.5", "DatabaseMinCapacity=16"),
        samconfig("DatabaseMaxCapacity=8", "DatabaseMaxCapacity=9"),
        samconfig('"Stage=dev",', '"Stage=dev", "AdminPassword=hunter2",'),
        resource(APPLICATION, "Database", "!If [IsProd, 'true', 'false']", "!If [IsProd, 'false', 'false']"),
    ],
    rules_templates.what_keeps_state_says_what_becomes_of_it: [
        reworded(DATABASE, "    DeletionPolicy: Snapshot\n", "    DeletionPolicy: Delete\n"),
        reworded(
            APPLICATION,
            "    UpdateReplacePolicy: Retain\n    Properties:\n      Description: Seals",
            "    Properties:\n      Description: Seals",
        ),
        resource(APPLICATION, "WakeupQueue", "    UpdateReplacePolicy: Retain ", "    UpdateReplacePolicy: Delete "),
    ],
    rules_templates.nothing_is_public: [
        added(APPLICATION, "Resources", BUCKET),
        added(APPLICATION, "Resources", OPEN_QUEUE),
        reworded(DATABASE, "PubliclyAccessible: !Ref PubliclyAccessible", "PubliclyAccessible: true"),
    ],
    rules_templates.every_queue_is_encrypted_and_takes_tls_only: [
        resource(APPLICATION, "DeadLetterQueuePolicy", "Queues: [!Ref DeadLetterQueue]", "Queues: [!Ref WakeupQueue]"),
        resource(APPLICATION, "WakeupQueuePolicy", "'false'", "'true'"),
        without(APPLICATION, "WakeupQueuePolicy"),
        resource(APPLICATION, "DeadLetterQueue", "SqsManagedSseEnabled: true", "SqsManagedSseEnabled: false"),
    ],
    rules_templates.no_password_exists: [
        reworded(
            DATABASE,
            "      EnableIAMDatabaseAuthentication: true\n",
            "      EnableIAMDatabaseAuthentication: true\n      MasterUserPassword: hunter2hunter2\n",
        ),
        reworded(DATABASE, "MasterUserAuthenticationType: iam-db-auth ", "ManageMasterUserPassword: true "),
        added(APPLICATION, "Parameters", PASSWORD),
        reworded(APPLICATION, "PasswordLength: 64", "PasswordLength: 12"),
    ],
    rules_templates.the_database_is_closed_and_kept: [
        reworded(DATABASE, "rds.force_ssl: '1'", "rds.force_ssl: '0'"),
        reworded(DATABASE, "StorageEncrypted: true", "StorageEncrypted: false"),
        reworded(DATABASE, "      DBClusterParameterGroupName: !Ref DatabaseParameterGroup\n", ""),
        reworded(DATABASE, "Family: aurora-postgresql17", "Family: aurora-postgresql16"),
        reworded(DATABASE, "[postgresql, instance, iam-db-auth-error]", "[postgresql, instance]"),
        reworded(
            DATABASE,
            "DependsOn: [PostgresqlLogGroup, InstanceLogGroup, IamAuthenticationLogGroup]",
            "DependsOn: [PostgresqlLogGroup]",
        ),
    ],
    rules_templates.capacity_pauses_only_at_zero: [
        reworded(
            DATABASE, "!If [MayPause, !Ref SecondsUntilAutoPause, !Ref AWS::NoValue]", "!Ref SecondsUntilAutoPause"
        ),
        reworded(DATABASE, "MayPause: !Equals [!Ref MinCapacity, '0']", "MayPause: !Equals [!Ref MinCapacity, '1']"),
    ],
    rules_templates.alarms_tell_what_to_do: [
        without(OBSERVABILITY, "DeadLetterAlarm"),
        resource(OBSERVABILITY, "ApiErrorAlarm", "      AlarmActions: [!Ref AlarmTopic]\n", ""),
        resource(OBSERVABILITY, "WakeupAgeAlarm", "!Ref WakeupQueueName", "!Ref DeadLetterQueueName"),
    ],
    rules_templates.the_application_tells_addresses_and_url: [
        resource(APPLICATION, "ApiUrl", "/${Stage}", ""),
        without(APPLICATION, "FixedAddresses"),
    ],
}


def _name(value: object) -> str:
    return str(getattr(value, "__name__", ""))


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_the_stack_keeps_the_rule(rule: Rule) -> None:
    assert rule(PROJECT) == []


@pytest.mark.parametrize(
    ("rule", "change"), [(rule, change) for rule, changes in BROKEN.items() for change in changes], ids=_name
)
def test_a_broken_stack_is_noticed(rule: Rule, change: Change) -> None:
    assert rule(change(PROJECT)) != []


def test_every_rule_has_a_broken_stack() -> None:
    assert [rule.__name__ for rule in RULES if not BROKEN.get(rule)] == []
