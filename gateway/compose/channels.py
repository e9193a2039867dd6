"""The tenants' WhatsApp numbers: one account each for sending and for media."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from gateway.secretfile import Newest
from gateway.sections import Tenant
from gateway.settings import Settings
from gateway.webhook import Door
from gateway.whatsapp import connection
from gateway.whatsapp.account import Account
from gateway.whatsapp.media import Media
from gateway.whatsapp.send import Graph


@dataclass(frozen=True, slots=True)
class Channels:
    """What sends and what fetches, per phone number id."""

    graphs: dict[str, Graph]
    media: dict[str, Media]


def channels(settings: Settings, stack: AsyncExitStack) -> Channels:
    """Return one `Graph` and one `Media` per number, on one shared client."""
    development = not settings.production
    http = connection.client(development=development)
    stack.push_async_callback(http.aclose)
    accounts = [
        _account(tenant, number, development=development)
        for tenant in settings.tenants
        for number in tenant.whatsapp.phone_number_ids
    ]
    return Channels(
        graphs={account.phone_number_id: Graph(http, account) for account in accounts},
        media={account.phone_number_id: Media(http, account) for account in accounts},
    )


def _account(tenant: Tenant, number: str, *, development: bool) -> Account:
    token = tenant.whatsapp.access_token_file
    return Account(
        phone_number_id=number,
        token=token.text,
        newest=Newest(token),
        graph=tenant.whatsapp.graph_url,
        media_hosts=frozenset(tenant.whatsapp.media_hosts),
        development=development,
    )


def door(tenant: Tenant) -> Door:
    """Return what the webhook needs to know of *tenant*."""
    return Door(
        tenant=tenant.id,
        phone_number_ids=frozenset(tenant.whatsapp.phone_number_ids),
        app_secrets=tenant.whatsapp.app_secrets,
        verify_token=tenant.whatsapp.verify_token_file.value,
    )
