"""Five partners' SDKs, each as its users write it, with another base URL: `python program.py NAME` in .venv-sdks.

Prints what the SDK's user sees of a payment that was made, of one whose answer was lost, and of one that could not be
sent. The partner is the demo partner, at destinations of those names (tests/sdks/test_sdks.py).
"""

import json
import os
import sys
from collections.abc import Callable

from sallyport import under_key
from sallyport.passing import via
from sallyport.requests_adapter import SallyportAdapter

API, TOKEN = os.environ["API_URL"], os.environ["TOKEN"]
type Pay = Callable[[str], object]


def stripe(base_url: str) -> Pay:
    """Its HTTP client takes a session of requests. Its own retries are on."""
    import requests
    import stripe

    session = requests.Session()
    session.mount(API, SallyportAdapter(TOKEN))
    client = stripe.StripeClient(
        "sk_test_of_the_sdk",
        base_addresses={"api": base_url},
        http_client=stripe.RequestsClient(session=session),
        max_network_retries=2,
    )
    return lambda _: client.v1.payment_intents.create({"amount": 10, "currency": "eur"})


def twilio(base_url: str) -> Pay:
    """Its HTTP client has a session of requests."""
    from twilio.http.http_client import TwilioHttpClient
    from twilio.rest import Client

    http = TwilioHttpClient()
    http.session.mount(API, SallyportAdapter(TOKEN))
    client = Client("ACofTheSdk", "secret-of-the-sdk", http_client=http)
    client.api.base_url = base_url
    return lambda _: client.messages.create(to="+15550100", from_="+15550101", body="hello")


def adyen(base_url: str) -> Pay:
    """It calls requests itself, so that no adapter can be mounted: it gets the token as a header."""
    import Adyen

    client = Adyen.Adyen(xapikey="key-of-the-sdk", platform="test", merchant_account="acme")
    payments = client.checkout.payments_api
    payments.baseUrl = base_url
    ours = {"Authorization": f"Bearer {TOKEN}"}
    return lambda key: payments.payments({"reference": key}, idempotency_key=key, header_parameters=ours)


def plaid(base_url: str) -> Pay:
    """It is built on urllib3: the same."""
    import plaid
    from plaid.api import plaid_api
    from plaid.model.products import Products
    from plaid.model.sandbox_public_token_create_request import SandboxPublicTokenCreateRequest

    client = plaid.ApiClient(plaid.Configuration(host=base_url, api_key={"clientId": "x", "secret": "y"}))
    client.set_default_header("Authorization", f"Bearer {TOKEN}")
    api = plaid_api.PlaidApi(client)
    request = SandboxPublicTokenCreateRequest(institution_id="ins_1", initial_products=[Products("auth")])

    def pay(key: str) -> object:
        client.set_default_header("Idempotency-Key", key)
        # The answer as it came: the demo partner does not answer in Plaid's terms.
        return api.sandbox_public_token_create(request, _preload_content=False)

    return pay


def boto3(base_url: str) -> Pay:
    """It signs its requests; the gateway's token goes in the signature's place. Its own retries are on."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "lambda",
        endpoint_url=base_url,
        region_name="eu-central-1",
        aws_access_key_id="AKIDOFTHESDK",
        aws_secret_access_key="secret-of-the-sdk",
        config=Config(retries={"total_max_attempts": 3, "mode": "standard"}),
    )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    client.meta.events.register("before-send.lambda", lambda request, **_: request.headers.update(headers))

    def pay(key: str) -> object:
        headers["Idempotency-Key"] = key
        return client.invoke(FunctionName="pay", Payload=b"{}")

    return pay


SDKS = {made.__name__: made for made in (stripe, twilio, adyen, plaid, boto3)}


def told(pay: Pay, key: str) -> list[str]:
    """What the SDK's user sees: nothing, or the error with what caused it."""
    seen: list[str] = []
    found: BaseException | None = None
    try:
        with under_key(key):
            pay(key)
    except Exception as error:  # noqa: BLE001 - whatever an SDK raises
        found = error
    while found is not None:
        seen.append(f"{type(found).__name__}: {found}")
        found = found.__cause__ or found.__context__
    return seen


if __name__ == "__main__":
    made = SDKS[sys.argv[1]]
    json.dump({name: told(made(via(API, f"sdk-{name}")), f"{sys.argv[1]}-{name}") for name in sys.argv[2:]}, sys.stdout)
