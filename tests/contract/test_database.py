"""The database keeps its rules with everything that is on demand, and each rule notices the stacks that break it."""

import pytest

from tests.contract import rules_database as rules
from tests.contract.changes import Change, Rule, name_of, resource
from tests.contract.project import APPLICATION, DATABASE, load

PROJECT = load()
BROKEN: dict[Rule, list[Change]] = {
    rules.functions_go_through_the_proxy_and_the_migration_past_it: [
        resource(APPLICATION, "ApiFunction", "Database.Outputs.Host", "Database.Outputs.Endpoint"),
        resource(APPLICATION, "AuthorizeFunction", "Outputs.RootCertificates", "Outputs.ClusterRootCertificates"),
        resource(APPLICATION, "AttemptFunction", "DATABASE_PROXY: !Ref DatabaseProxy", "DATABASE_PROXY: 'no'"),
        resource(APPLICATION, "MigrateFunction", "Database.Outputs.Endpoint", "Database.Outputs.Host"),
        resource(DATABASE, "RootCertificates", "/etc/pki/tls/certs/ca-bundle.crt", "/var/task/certs/roots.pem"),
    ],
    rules.without_a_proxy_all_connect_to_the_cluster: [
        resource(DATABASE, "UsesProxy", "'yes'", "'no'"),
        resource(DATABASE, "ConnectResourceId", "DatabaseCluster.DBClusterResourceId", "DatabaseCluster.DBClusterArn"),
        resource(APPLICATION, "AttemptRole", "/sallyport_app", "/sallyport_owner"),
    ],
    rules.functions_may_connect_to_the_proxy_and_the_proxy_to_the_cluster: [
        resource(APPLICATION, "AdminRole", "Outputs.ConnectResourceId", "Outputs.DbClusterResourceId"),
        resource(APPLICATION, "MigrateRole", "Outputs.DbClusterResourceId", "Outputs.ConnectResourceId"),
        resource(DATABASE, "ProxyRole", "/sallyport_authorizer", "/sallyport_owner"),
        resource(DATABASE, "ProxyRole", "/sallyport_app", "/*"),
    ],
    rules.the_proxy_takes_tokens_over_tls_alone: [
        resource(DATABASE, "DatabaseProxy", "RequireTLS: true", "RequireTLS: false"),
        resource(DATABASE, "DatabaseProxy", "DefaultAuthScheme: IAM_AUTH", "DefaultAuthScheme: NONE"),
        resource(DATABASE, "DatabaseProxy", "DebugLogging: false", "DebugLogging: true"),
        resource(DATABASE, "DatabaseProxy", "    DependsOn: ProxyLogGroup\n", ""),
        resource(DATABASE, "ProxyLogGroup", "/aws/rds/proxy/sallyport-", "/aws/rds/proxy/"),
        resource(DATABASE, "ProxyTargetGroup", "MaxConnectionsPercent: 85", "MaxConnectionsPercent: 100"),
        resource(DATABASE, "ProxyTargetGroup", "ConnectionBorrowTimeout: 5", "ConnectionBorrowTimeout: 120"),
        resource(APPLICATION, "Database", "Outputs.ProxySecurityGroupId", "Outputs.DatabaseSecurityGroupId"),
    ],
    rules.the_standby_is_ready_in_another_zone: [
        resource(APPLICATION, "Database", "ReaderZone: !GetAtt Network.Outputs.ZoneB", "ReaderZone: us-east-1a"),
        resource(DATABASE, "DatabaseReaderInstance", "PromotionTier: 1", "PromotionTier: 2"),
        resource(DATABASE, "DatabaseReaderInstance", "    DependsOn: DatabaseInstance  #", "    #"),
        resource(DATABASE, "DatabaseReaderInstance", "db.serverless", "db.r8g.large"),
        resource(DATABASE, "DatabaseReaderInstance", "Condition: HasReader", "Condition: MayPause"),
    ],
    rules.instances_are_public_where_developers_come_in_and_nowhere_else: [
        resource(APPLICATION, "Database", "!If [IsInternetAccessible, 'true', 'false']", "'true'"),
        resource(APPLICATION, "Database", "!If [IsInternetAccessible, 'true', 'false']", "'false'"),
        resource(DATABASE, "DatabaseReaderInstance", "!Ref PubliclyAccessible", "'true'"),
    ],
    rules.ones_own_key_encrypts_storage_and_logs: [
        resource(
            DATABASE, "DatabaseCluster", "      KmsKeyId: !If [HasKmsKey, !Ref KmsKeyArn, !Ref AWS::NoValue]\n", ""
        ),
        resource(DATABASE, "ProxyLogGroup", "      KmsKeyId: !If [HasKmsKey, !Ref KmsKeyArn, !Ref AWS::NoValue]\n", ""),
        resource(APPLICATION, "Database", "        KmsKeyArn: !Ref KmsKeyArn\n", ""),
    ],
    rules.backups_keep_clear_of_maintenance: [
        resource(DATABASE, "DatabaseCluster", "sun:03:30-sun:04:30", "sun:02:30-sun:03:30"),
        resource(APPLICATION, "DatabaseBackupWindow", "05:00-06:00", "04:00-05:00"),
        resource(APPLICATION, "DatabaseBackupWindow", "05:00-06:00", "05:00-05:15"),
    ],
    rules.people_find_the_way_that_db_shell_takes: [
        resource(APPLICATION, "DatabaseEndpoint", "Database.Outputs.Endpoint", "Database.Outputs.Host"),
        resource(APPLICATION, "BastionInstanceId", "BastionHost.Outputs.InstanceId", "Network.Outputs.VpcId"),
        resource(APPLICATION, "Topology", "internet-accessible, on-premises", "on-premises"),
    ],
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_database_keeps_the_rule(rule: Rule) -> None:
    assert rule(PROJECT) == []


@pytest.mark.parametrize(
    ("rule", "change"), [(rule, change) for rule, changes in BROKEN.items() for change in changes], ids=name_of
)
def test_a_broken_database_is_noticed(rule: Rule, change: Change) -> None:
    assert rule(change(PROJECT)) != []


def test_every_rule_is_shown_to_notice_something() -> None:
    assert BROKEN.keys() == set(rules.RULES)
