"""The stack keeps its rules, and each rule notices the stacks that break it."""

import pytest

from tests.contract import rules_api, rules_functions, rules_templates
from tests.contract.changes import (
    Change,
    Rule,
    added,
    event_files,
    makefile,
    name_of,
    requirements,
    resource,
    reworded,
    samconfig,
    together,
    without,
)
from tests.contract.project import APPLICATION, CHECK_EGRESS, DATABASE, NETWORK, OBSERVABILITY, load

FLOW_LOGS = "infra/vpc-flow-logs.yaml"
RULES: list[Rule] = [*rules_functions.RULES, *rules_api.RULES, *rules_templates.RULES]
PROJECT = load()


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
ANYBODYS_PERMISSION = """
  AnybodysPermission:
    Type: AWS::Lambda::Permission
    Properties:
      Action: lambda:InvokeFunction
      FunctionName: !Ref ApiFunction
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

OUT_OF_THE_VPC = """      VpcConfig:
        SubnetIds: !Split [',', !GetAtt Network.Outputs.PrivateSubnetIds]
        SecurityGroupIds: [!GetAtt Network.Outputs.DatabaseClientSecurityGroupId]
"""

BROKEN: dict[Rule, list[Change]] = {
    # ---- functions, roles, queues and logs
    rules_functions.functions_are_what_the_table_says: [
        reworded(APPLICATION, "AdminFunction", "OperateFunction", count=-1),
        reworded(APPLICATION, "NetworkResourcesFunction", "LookUpFunction", count=-1),
        resource(APPLICATION, "AdminFunction", "DATABASE_USER: sallyport_admin", "DATABASE_USER: sallyport_app"),
        resource(APPLICATION, "AdminFunction", "          DATABASE_USER: sallyport_admin\n", ""),
        resource(APPLICATION, "AdminFunction", OUT_OF_THE_VPC, ""),
        resource(APPLICATION, "Migration", "!GetAtt MigrateFunction.Arn", "!GetAtt AdminFunction.Arn"),
        reworded(APPLICATION, "FunctionArn: !GetAtt AuthorizeFunction.Arn", "FunctionArn: !GetAtt AdminFunction.Arn"),
        added(APPLICATION, "Resources", ADMIN_PERMISSION),
    ],
    rules_functions.the_bill_counts_each_use_once: [
        added(APPLICATION, "Resources", ADMIN_PERMISSION),
    ],
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
        resource(
            APPLICATION,
            "AdminFunction",
            "WorkingDirectory: !Sub 'tools/processors/${Architecture}'",
            "WorkingDirectory: .",
        ),
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
        resource(CHECK_EGRESS, "Role", "'ssm:PutParameter'", "'ssm:DeleteParameter'"),
        resource(CHECK_EGRESS, "Role", "parameter${Result}", "parameter/sallyport/*"),
        resource(APPLICATION, "DefaultSecurityGroupPolicy", "security-group/${Group}", "security-group/*"),
        resource(APPLICATION, "NetworkResourcesRole", "ec2:DescribeAddresses", "ec2:ReleaseAddress"),
        resource(APPLICATION, "NetworkResourcesRole", "                  - ec2:DescribeAvailabilityZones\n", ""),
        resource(APPLICATION, "ApiRole", "sqs:SendMessage", "sqs:*"),
        resource(APPLICATION, "ApiRole", "Resource: !GetAtt WakeupQueue.Arn", "Resource: '*'"),
        resource(APPLICATION, "AttemptRole", "'sqs:DeleteMessage', ", ""),
        resource(APPLICATION, "AttemptRole", ", 'secretsmanager:PutSecretValue'", ""),
        resource(APPLICATION, "AttemptRole", "'secretsmanager:PutSecretValue'", "'secretsmanager:*'"),
        resource(
            APPLICATION,
            "ApiRole",
            "Action: secretsmanager:GetSecretValue",
            "Action: ['secretsmanager:GetSecretValue', 'secretsmanager:PutSecretValue']",
        ),
        resource(APPLICATION, "AuthorizeRole", "/sallyport_authorizer", "/*"),
        resource(
            APPLICATION, "AdminRole", "- !Ref NetworkInterfacePolicy", "- arn:aws:iam::aws:policy/AdministratorAccess"
        ),
    ],
    rules_functions.only_the_worker_puts_events_and_checkpoints_where_they_go: [
        resource(APPLICATION, "AttemptRole", "${AuditBucketName}/checkpoints/*", "*"),
        resource(APPLICATION, "AttemptRole", "s3:PutObject", "s3:*"),
        resource(APPLICATION, "AttemptRole", "event-bus/${EventBusName}", "event-bus/*"),
        resource(APPLICATION, "AttemptRole", "events:PutEvents", "events:*"),
        resource(APPLICATION, "ApiFunction", "          EVENT_BUS_NAME: !Ref EventBusName\n", ""),
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
        reworded(APPLICATION, "  # the interfaces do not exist yet, and the Describe actions take no resources", ""),
        resource(APPLICATION, "AdminRole", "Action: rds-db:connect", "Action: rds-db:*"),
        reworded("infra/endpoints.yaml", ":*  # roles say which queue", ":*"),
    ],
    rules_functions.every_function_has_a_log_group_of_its_own: [
        resource(APPLICATION, "AdminFunction", "!Ref AdminLogGroup", "!Ref ApiLogGroup"),
    ],
    rules_functions.every_function_logs_at_the_level_asked_for: [
        reworded(APPLICATION, "LogFormat: Text", "LogFormat: JSON"),
        reworded(APPLICATION, "POWERTOOLS_LOG_LEVEL: !Ref LogLevel", "POWERTOOLS_LOG_LEVEL: DEBUG"),
        reworded(APPLICATION, "[DEBUG, INFO, WARNING]", "[DEBUG, INFO, WARNING, ERROR]"),
    ],
    rules_functions.every_log_group_ends: [
        resource(APPLICATION, "ApiLogGroup", "      RetentionInDays: !Ref LogRetentionDays\n", ""),
        resource(DATABASE, "InstanceLogGroup", "      RetentionInDays: !Ref LogRetentionDays\n", ""),
        resource(FLOW_LOGS, "FlowLogGroup", "      RetentionInDays: !Ref LogRetentionDays\n", ""),
        resource(APPLICATION, "AdminFunction", "        LogGroup: !Ref AdminLogGroup\n", "        LogFormat: JSON\n"),
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
        samconfig("ApiConcurrency=200", "ApiConcurrency=750"),  # twice over, with the others
        together(
            samconfig('"DatabaseMaxCapacity=8"', '"DatabaseProxy=yes", "DatabaseMaxCapacity=8"'),
            reworded(DATABASE, "MaxConnectionsPercent: 85", "MaxConnectionsPercent: 99"),
        ),
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
        reworded(APPLICATION, "LatestMigration: 0039_who_was_right", "LatestMigration: 0000_nothing"),
        resource(
            APPLICATION, "Migration", "      DbClusterResourceId: !GetAtt Database.Outputs.DbClusterResourceId\n", ""
        ),
        resource(APPLICATION, "Migration", "ServiceTimeout: 720", "ServiceTimeout: 600"),
        resource(APPLICATION, "Migration", "ServiceTimeout: 720", "ServiceTimeout: 3600"),
    ],
    rules_functions.the_stage_comes_after_the_role_for_its_log: [
        reworded(
            APPLICATION, "      AccessLogRole: !If [SetsApiGatewayLogRole, !Ref ApiGatewayAccount, existing]\n", ""
        ),
    ],
    rules_functions.nothing_waits_for_itself: [
        resource(
            APPLICATION, "ApiFunction", "        Variables:\n", "        Variables:\n          OWN_API: !Ref Api\n"
        ),
        resource(NETWORK, "DatabaseSecurityGroup", "127.0.0.1/32", "!GetAtt DatabaseFromProxyIngress.Id"),
    ],
    # ---- the API
    rules_api.every_v1_route_asks_the_authorizer_and_no_open_one_does: [
        reworded(APPLICATION, "Path: '/v1/via/{proxy+}'", "Path: '/v1/via/{proxy+}', Auth: {Authorizer: NONE}"),
        reworded(APPLICATION, "Path: /healthz, Auth: {Authorizer: NONE}", "Path: /healthz"),
        reworded(APPLICATION, "Path: /docs, Auth", "Path: /v1/docs, Auth"),
        reworded(APPLICATION, "Path: '/v1/via/{proxy+}'", "Path: '/v2/{proxy+}'"),
    ],
    rules_api.every_operation_has_a_route_and_every_route_an_operation: [
        reworded(APPLICATION, "Path: '/v1/via/{proxy+}'", "Path: '/v1/via/{destination}'"),
        reworded(APPLICATION, "Path: /v1/egress/verify}", "Path: /v1/egress/verification}"),
    ],
    rules_api.callers_are_limited_where_they_enter: [
        reworded(APPLICATION, "{'aws:VpcSourceIp': !Split", "{'aws:SourceIp': !Split"),
        reworded(APPLICATION, "StringNotEquals: {'aws:SourceVpce'", "StringEquals: {'aws:SourceVpce'"),
        reworded(APPLICATION, "Type: !If [HasPrivateApi, PRIVATE, REGIONAL]", "Type: REGIONAL"),
        reworded(
            APPLICATION,
            "              - LimitsCallers\n              - Effect: Deny",
            "              - LimitsCallers\n              - Effect: Allow",
        ),
    ],
    rules_api.a_change_of_who_may_call_is_deployed: [
        reworded(APPLICATION, "'All${Topology}", "'All"),
        reworded(APPLICATION, "${CorporateApi}${DomainName}'", "${DomainName}'"),
        reworded(APPLICATION, "${CorporateApi}${DomainName}'", "${CorporateApi}'"),
    ],
    rules_api.the_alias_follows_every_setting_of_the_function: [
        reworded(APPLICATION, "${EgressEchoUrl} ${LogLevel}", "${EgressEchoUrl}", count=2),
        reworded(APPLICATION, "API (${Addresses} ", "API (", count=2),
        reworded(APPLICATION, "API (${Addresses} ", "API ("),
        reworded(APPLICATION, "    MaxLength: 64 ", "    MaxLength: 640 "),
        reworded(APPLICATION, "${Database} ${Key}", "${DatabaseProxy} ${Key}", count=2),
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
        resource(APPLICATION, "Api", "        THROTTLED:", "        QUOTA_EXCEEDED:"),
        reworded(APPLICATION, "application/problem+json", "application/json"),
        reworded(APPLICATION, '"status": 413,', '"status": 413'),
        reworded(APPLICATION, '"Sallyport failed", "status": 500,', '"Sallyport failed",'),
        reworded(
            APPLICATION, '"API Gateway refused the request. Nothing was recorded."', "$context.error.messageString"
        ),
        reworded(APPLICATION, '"status": 413,', '"status": 400,'),
        reworded(APPLICATION, "problem:too-large", "problem:large"),
        reworded(APPLICATION, ", Retry-After: \"'5'\"}}", "}}"),
    ],
    rules_api.logs_hold_no_body_path_or_token: [
        reworded(APPLICATION, "$context.resourcePath", "$context.path"),
        reworded(APPLICATION, "LoggingLevel: 'OFF'", "LoggingLevel: INFO"),
        reworded(APPLICATION, "DataTraceEnabled: false", "DataTraceEnabled: true"),
        reworded(APPLICATION, "TracingEnabled: !If [Traces, true, false]", "TracingEnabled: true"),
    ],
    rules_api.the_stage_is_throttled: [
        reworded(APPLICATION, "          ThrottlingRateLimit: !Ref ThrottleRate\n", ""),
        reworded(APPLICATION, "HttpMethod: '*'", "HttpMethod: GET"),
    ],
    rules_api.bodies_arrive_as_bytes_over_current_tls: [
        reworded(APPLICATION, "['*~1*']", "['image~1png']"),
        reworded(APPLICATION, "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09", "TLS_1_0"),
        reworded(APPLICATION, "[HasPrivateApi, PRIVATE, REGIONAL]", "[HasPrivateApi, PRIVATE, EDGE]"),
    ],
    rules_api.only_the_worker_names_the_api_among_blocked_hosts: [
        resource(
            APPLICATION,
            "AttemptFunction",
            "            - !Sub ${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}\n",
            "            - api.example.com\n",
        ),
    ],
    # ---- templates, and the database's in particular
    rules_templates.everything_is_described: [
        resource(NETWORK, "VpcId", "    Description: The VPC\n", ""),
        resource(
            DATABASE, "SubnetIds", "    Description: Database subnets", "    ConstraintDescription: Database subnets"
        ),
    ],
    rules_templates.functions_stand_after_what_is_theirs: [
        reworded(APPLICATION, "  AdminRole:\n", "  RoleOfAdmin:\n"),
    ],
    rules_templates.what_api_gateway_answers_stands_last: [
        reworded(APPLICATION, "      GatewayResponses:\n", "      AnswersOfTheGateway:\n"),
    ],
    rules_templates.nested_stacks_are_named_like_their_files: [
        reworded(APPLICATION, "  VpcFlowLogs:\n", "  TrafficLog:\n"),
    ],
    rules_templates.no_name_is_of_two_things: [
        reworded("infra/endpoints.yaml", "  XrayEndpoint:\n", "  XrayAccess:\n"),
    ],
    rules_templates.every_parameter_is_limited: [
        added(APPLICATION, "Parameters", UNLIMITED),
    ],
    rules_templates.every_resource_is_as_aws_describes_its_type: [
        resource("infra/vpn.yaml", "CustomerGateway", "      Type: ipsec.1\n", ""),
        resource(OBSERVABILITY, "AuthorizerFailureFilter", "          MetricValue: '1'\n", ""),
        resource(FLOW_LOGS, "FlowLog", "LogDestinationType: cloud-watch-logs", "LogDestinationType: cloudwatch"),
        resource(DATABASE, "DatabaseCluster", "StorageEncrypted: ", "StorageEncryption: "),
        resource(APPLICATION, "WakeupQueue", "MessageRetentionPeriod: ", "MessageRetentionPeriod: 1"),
    ],
    rules_templates.nested_templates_get_what_they_ask_for: [
        resource(APPLICATION, "Database", "        MinCapacity: !Ref DatabaseMinCapacity\n", ""),
        resource(
            APPLICATION,
            "Observability",
            "        VpnConnectionId: !If [HasVpn, !GetAtt Vpn.Outputs.VpnConnectionId, '']\n",
            "",
        ),
        resource(APPLICATION, "Network", "        VpcCidr: !Ref VpcCidr\n", "        Cidr: !Ref VpcCidr\n"),
        without(NETWORK, "VpcCidr"),
    ],
    rules_templates.rights_are_there_before_what_needs_them: [
        resource(APPLICATION, "DefaultSecurityGroup", "    DependsOn: DefaultSecurityGroupPolicy\n", ""),
        resource(
            APPLICATION, "NetworkInterfacePolicy", "    Properties:\n", "    Properties:\n      Roles: [!Ref ApiRole]\n"
        ),
        resource(APPLICATION, "AttemptRole", "'sqs:GetQueueAttributes', ", ""),
    ],
    rules_templates.conditions_are_worked_out_once: [
        reworded(OBSERVABILITY, "[!Ref DatabasePauses, 'yes']", "[!Ref DatabaseMinCapacity, '0']"),
        together(
            resource(APPLICATION, "Network", "!If [TracesWithOpenTelemetry, 'yes', 'no']", "!Ref Tracing"),
            resource(NETWORK, "OpenTelemetry", "['no', 'yes']\n    Default: 'no'", "[none, xray, otel]"),
            reworded(NETWORK, "[!Ref OpenTelemetry, 'yes']", "[!Ref OpenTelemetry, otel]"),
        ),
        reworded(NETWORK, "!Equals [!Ref NatPerZone, 'yes']", "!Not [!Equals [!Ref NatPerZone, 'no']]"),
    ],
    rules_templates.nested_parameters_say_the_same_as_ours: [
        resource(NETWORK, "S3GatewayEndpoint", "['yes', 'no']", "['yes', 'no', maybe]"),
        resource(APPLICATION, "LogRetentionDays", "[1, 3, 5, 7,", "[1, 3, 7,"),
    ],
    rules_templates.stages_are_deployable: [
        samconfig("Stage=prod", "Stage=production"),
        samconfig("ThrottleRate=500", "ThrottleSpeed=500"),
        samconfig("DatabaseMinCapacity=0.5", "DatabaseMinCapacity=16"),
        samconfig("DatabaseMaxCapacity=8", "DatabaseMaxCapacity=9"),
        samconfig('"Stage=dev",', '"Stage=dev", "AdminPassword=hunter2",'),
    ],
    rules_templates.what_keeps_state_says_what_becomes_of_it: [
        reworded(DATABASE, "    DeletionPolicy: Snapshot\n", "    DeletionPolicy: Delete\n"),
        reworded(
            APPLICATION,
            "    UpdateReplacePolicy: Retain\n    Properties:\n      Description: Key that seals",
            "    Properties:\n      Description: Key that seals",
        ),
        resource(APPLICATION, "WakeupQueue", "    UpdateReplacePolicy: Retain ", "    UpdateReplacePolicy: Delete "),
        resource(NETWORK, "EgressAddressB", "    UpdateReplacePolicy: Retain\n", ""),  # seen with two addresses alone
        resource(FLOW_LOGS, "FlowLogGroup", "    UpdateReplacePolicy: Delete\n", ""),
    ],
    rules_templates.nothing_is_public: [
        added(APPLICATION, "Resources", BUCKET),
        added(APPLICATION, "Resources", OPEN_QUEUE),
        reworded(DATABASE, "PubliclyAccessible: !Ref PubliclyAccessible", "PubliclyAccessible: true"),
        resource(
            APPLICATION, "Database", "!If [IsInternetAccessible, 'true', 'false']", "!If [HasVpn, 'true', 'false']"
        ),
        resource(OBSERVABILITY, "AlarmTopicPolicy", "Principal: {Service: cloudwatch.amazonaws.com}", "Principal: '*'"),
        added(APPLICATION, "Resources", ANYBODYS_PERMISSION),
    ],
    rules_templates.every_statement_about_a_resource_names_a_principal: [
        resource(NETWORK, "S3Endpoint", "              Principal: '*'\n", ""),
        reworded("infra/endpoints.yaml", "            Principal: '*'\n", ""),
        reworded(APPLICATION, "            Principal: '*'\n", ""),
        reworded("infra/bastion-host.yaml", "Principal: {Service: ec2.amazonaws.com}, ", ""),
    ],
    rules_templates.every_queue_is_encrypted_and_takes_tls_only: [
        resource(APPLICATION, "DeadLetterQueuePolicy", "Queues: [!Ref DeadLetterQueue]", "Queues: [!Ref WakeupQueue]"),
        resource(APPLICATION, "WakeupQueuePolicy", "'false'", "'true'"),
        without(APPLICATION, "WakeupQueuePolicy"),
        resource(
            APPLICATION,
            "DeadLetterQueue",
            "SqsManagedSseEnabled: !If [HasKmsKey, false, true]",
            "SqsManagedSseEnabled: false",
        ),
    ],
    rules_templates.no_password_exists: [
        reworded(
            DATABASE,
            "      EnableIAMDatabaseAuthentication: true\n",
            "      EnableIAMDatabaseAuthentication: true\n      MasterUserPassword: hunter2hunter2\n",
        ),
        reworded(
            DATABASE,
            "MasterUserAuthenticationType: !If [IsRestored, !Ref AWS::NoValue, iam-db-auth] ",
            "ManageMasterUserPassword: true ",
        ),
        added(APPLICATION, "Parameters", PASSWORD),
        reworded(APPLICATION, "PasswordLength: 64", "PasswordLength: 12"),
    ],
    rules_templates.the_database_is_closed_and_kept: [
        reworded(DATABASE, "rds.force_ssl: '1'", "rds.force_ssl: '0'"),
        reworded(DATABASE, "!If [IsRestored, !Ref AWS::NoValue, true]", "false"),
        reworded(DATABASE, "      CopyTagsToSnapshot: true\n", "      DeletionProtection: true\n"),
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
        reworded(DATABASE, "MayPause: !Equals [!Ref Pauses, 'yes']", "MayPause: !Equals [!Ref MinCapacity, '1']"),
        reworded(APPLICATION, "[!Ref DatabaseMinCapacity, '0']  #", "[!Ref DatabaseMinCapacity, '1']  #"),
    ],
    rules_templates.alarms_tell_what_to_do: [
        without(OBSERVABILITY, "DeadLetterAlarm"),
        resource(OBSERVABILITY, "ApiErrorAlarm", "      AlarmActions: [!Ref AlarmTopic]\n", ""),
        resource(OBSERVABILITY, "WakeupAgeAlarm", "!Ref WakeupQueueName", "!Ref DeadLetterQueueName"),
    ],
    rules_templates.the_application_tells_addresses_and_url: [
        resource(APPLICATION, "ApiUrl", "!Sub https://${Api}.execute-api.", "!Sub http://${Api}.execute-api."),
        without(APPLICATION, "FixedAddresses"),
    ],
}


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_the_stack_keeps_the_rule(rule: Rule) -> None:
    assert rule(PROJECT) == []


@pytest.mark.parametrize(
    ("rule", "change"), [(rule, change) for rule, changes in BROKEN.items() for change in changes], ids=name_of
)
def test_a_broken_stack_is_noticed(rule: Rule, change: Change) -> None:
    assert rule(change(PROJECT)) != []


def test_every_rule_has_a_broken_stack() -> None:
    assert [rule.__name__ for rule in RULES if not BROKEN.get(rule)] == []
