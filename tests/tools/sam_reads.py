"""Prints, in JSON, what `sam local` makes of the template for each set of parameters. Runs with .venv-sam."""

import json
import sys

from samcli.commands.local.lib.local_lambda import LocalLambdaRunner  # type: ignore[import-not-found] # in .venv-sam
from samcli.lib.providers.api_provider import ApiProvider  # type: ignore[import-not-found] # in .venv-sam
from samcli.lib.providers.sam_function_provider import SamFunctionProvider  # type: ignore[import-not-found] # in .venv-sam
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider  # type: ignore[import-not-found] # in .venv-sam


def read(template: str, parameters: dict[str, str], variables: dict[str, dict[str, str]]) -> dict[str, object]:
    """What it makes of one set, with these environment variables."""
    stacks, _ = SamLocalStackProvider.get_stacks(template, parameter_overrides=parameters)
    runner = LocalLambdaRunner(None, None, None, ".", env_vars_values=variables)
    functions = {
        function.full_path.replace("/", "."): {
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
        {"path": route.path, "function": route.function_name, "authorizer": route.authorizer_name}
        for route in api.routes
    ]
    return {"functions": functions, "routes": routes, "stage": api.stage_name}


template, parameters, variables = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
sys.stdout.write(json.dumps([read(template, one_set, variables) for one_set in parameters]) + "\n")
