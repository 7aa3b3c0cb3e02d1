"""What `make deploy` does once a stack is as wanted: protection from deletion, and a look at the private API.

Neither can be in the template. A cluster that is protected while it is created cannot be deleted when the creation of
something else fails, and the first deployment ends as ROLLBACK_FAILED. And the association of a private API with its
endpoint was lost at updates (https://github.com/aws/aws-sam-cli/issues/2353), without an event or a failure.
"""

from collections.abc import Callable, Iterator
from typing import Any

from stack.deploy.change_sets import STACK, ExistingResource, LiveSource

PROTECTED_STAGE = "prod"


def protect_from_deletion(session: Any, region: str, stack: str, print_line: Callable[[str], None]) -> None:
    """Of a stack whose parameter Stage is prod: the stack itself and its database. Of others it changes nothing."""
    cloudformation = session.client("cloudformation", region_name=region)
    if _stage(cloudformation, stack) != PROTECTED_STAGE:
        return
    cloudformation.update_termination_protection(StackName=stack, EnableTerminationProtection=True)
    print_line(f"Protected from deletion: the stack {stack}")
    for cluster in _of_type(LiveSource(client=cloudformation), stack, "AWS::RDS::DBCluster"):
        session.client("rds", region_name=region).modify_db_cluster(
            DBClusterIdentifier=cluster.physical_id, DeletionProtection=True, ApplyImmediately=True
        )
        print_line(f"Protected from deletion: the database {cluster.physical_id}")


def associate_private_api(session: Any, region: str, stack: str, print_line: Callable[[str], None]) -> None:
    """Where the API is private and has lost its endpoint, gives it back; without it, its name does not resolve."""
    live = LiveSource(client=session.client("cloudformation", region_name=region))
    endpoints = [resource for resource in _resources(live, stack) if resource.logical_id == "ApiEndpoint"]
    for api in _of_type(live, stack, "AWS::ApiGateway::RestApi") if endpoints else ():
        gateway = session.client("apigateway", region_name=region)
        configuration = gateway.get_rest_api(restApiId=api.physical_id)["endpointConfiguration"]
        missing = {endpoint.physical_id for endpoint in endpoints} - set(configuration.get("vpcEndpointIds", ()))
        for endpoint in sorted(missing if "PRIVATE" in configuration.get("types", ()) else ()):
            gateway.update_rest_api(
                restApiId=api.physical_id,
                patchOperations=[{"op": "add", "path": "/endpointConfiguration/vpcEndpointIds", "value": endpoint}],
            )
            print_line(f"The private API had lost its endpoint {endpoint}; it is associated with it again")


def _stage(cloudformation: Any, stack: str) -> str:
    (described,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    parameters = {
        parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in described.get("Parameters", ())
    }
    return str(parameters.get("Stage", ""))


def _of_type(live: LiveSource, stack: str, kind: str) -> Iterator[ExistingResource]:
    return (resource for resource in _resources(live, stack) if resource.type == kind)


def _resources(live: LiveSource, stack: str) -> Iterator[ExistingResource]:
    """Those of nested stacks too."""
    for resource in live.resources(stack):
        yield resource
        if resource.type == STACK and resource.physical_id:
            yield from _resources(live, resource.physical_id)
