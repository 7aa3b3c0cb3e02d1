"""The edges of the system, a module for each function: an event in, one call of a flow, its result out.

While a function's modules are loaded, a great many objects are made and hardly any become garbage, but the collector
looks through all of them again and again: a twentieth of the loading. So it pauses until the handler is defined, and
never looks at what was loaded by then (`observed` in runtime/observability.py).

Of Powertools only what serves these functions is loaded (runtime/packages.py).
"""

import gc

from runtime.packages import load_in_parts

gc.disable()

load_in_parts(
    "aws_lambda_powertools.utilities.data_classes",
    {
        "ALBEvent": "alb_event",
        "APIGatewayProxyEvent": "api_gateway_proxy_event",
        "APIGatewayProxyEventV2": "api_gateway_proxy_event",
        "BedrockAgentEvent": "bedrock_agent_event",
        "LambdaFunctionUrlEvent": "lambda_function_url_event",
        "S3Event": "s3_event",
        "VPCLatticeEvent": "vpc_lattice",
        "VPCLatticeEventV2": "vpc_lattice",
    },
)
load_in_parts(
    "aws_lambda_powertools.event_handler", {"APIGatewayRestResolver": "api_gateway", "Response": "api_gateway"}
)
load_in_parts("aws_lambda_powertools.utilities.batch", {"BatchProcessor": "base", "EventType": "base"})
