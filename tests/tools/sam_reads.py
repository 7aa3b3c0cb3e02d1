"""Prints what `sam local` makes of the template, in JSON. Runs with the SAM CLI of .venv-sam, not with ours."""

import json
import sys

from samcli.commands.local.lib.local_lambda import LocalLambdaRunner  # type: ignore[import-not-found] # in .venv-sam
from samcli.lib.providers.api_provider import ApiProvider  # type: ignore[import-not-found] # in .venv-sam
from samcli.lib.providers.sam_function_provider import SamFunctionProvider  # type: ignore[import-not-found] # in .venv-sam
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider  # type: ignore[import-not-found] # in .venv-sam

stacks, _ = SamLocalStackProvider.get_stacks(sys.argv[1], parameter_overrides=json.loads(sys.argv[2]))
runner = LocalLambdaRunner(None, None, None, ".", env_vars_values=json.loads(sys.argv[3]))
functions = {
    function.name: {
        "layers": [layer.arn for layer in function.layers],
        "architectures": function.architectures,
        "timeout": function.timeout,
        "memory": function.memory,
        "runtime": function.runtime,
        "handler": function.handler,
        "working_directory": function.metadata["WorkingDirectory"],
        "variables": runner._make_env_vars(function).resolve(),
    }
    for function in SamFunctionProvider(stacks).get_all()
}
api = ApiProvider(stacks).api
routes = [
    {"path": route.path, "function": route.function_name, "authorizer": route.authorizer_name} for route in api.routes
]
sys.stdout.write(json.dumps({"functions": functions, "routes": routes, "stage": api.stage_name}) + "\n")
