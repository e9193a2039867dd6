"""
Graph's error codes and what each means for us: data, held by a test to the vendor's page.

- *Account*: the operator's token, permission, payment, registration or standing. The message has
  no fault: it waits until the account is mended.
- *Busy*: Graph did nothing, and a later call may work.
- *Refused*: the same call will never work.
- *Unknown*: nothing says what became of the request.

A code that the table does not name goes by the status it came under. As the reason of a message
that *failed after* it was accepted the same codes hold: what is busy or unknown can be sent
again (it did not arrive, that much is sure), what is refused cannot.

Source: Meta, "Cloud API error codes" (WhatsApp Business Platform) and "Error handling" (Graph
API), as of 2026-11. Subcodes are deprecated there; the one read here tells a wrong object from a
wrong parameter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus


class Means(StrEnum):
    """What a code means for whoever called; kept sorted."""

    ACCOUNT = "account"
    BUSY = "busy"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one code means: its class, and a *word* for metrics and logs, which hold no digits."""

    means: Means
    word: str


def _all(means: Means, rows: Mapping[str, tuple[int, ...]]) -> dict[int, Meaning]:
    return {code: Meaning(means, word) for word, codes in rows.items() for code in codes}


CODES: Mapping[int, Meaning] = {
    **_all(
        Means.ACCOUNT,
        {
            "account.limited": (131048, 131064, 613),
            "account.locked": (368, 131031),
            "account.name": (131037,),
            "account.payment": (131042,),
            "account.permission": (3, 10, *range(200, 300), 131005),
            "account.registration": (
                33,
                131045,
                133000,
                133004,
                133005,
                133006,
                133008,
                133009,
                133010,
                133015,
                133016,
            ),
            "account.token": (0, 102, 104, 190, 2500),
        },
    ),
    **_all(
        Means.BUSY,
        {
            "busy.app": (4, 17, 32, 341, 80007, 80008),
            "busy.pair": (131056,),
            "busy.service": (2, 131016, 131057),
            "busy.throughput": (130429,),
        },
    ),
    **_all(
        Means.REFUSED,
        {
            "refused.country": (130497,),
            "refused.media": (131051, 131052, 131053),
            "refused.not_delivered": (130472, 131026, 131049, 131050),
            "refused.parameter": (100, 131008, 131009, 131055, 135000, 1752041),
            "refused.payments": (134011, 134100, 134101, 134102),
            "refused.recipient": (131021, 131030, 131062),
            "refused.storage": (131035, 131036),
            "refused.template": (
                132000,
                132001,
                132005,
                132007,
                132012,
                132015,
                132016,
                132068,
                132069,
            ),
            "refused.window": (131047,),
            "refused.calling": tuple(range(138000, 138020)),
        },
    ),
    **_all(Means.UNKNOWN, {"unknown.graph": (1, 131000)}),
}

PAIR_LIMIT = 131056
NO_OBJECT = 33  # as the subcode of 100: no such number, or none that this token may use
PARAMETER = 100

_ACCOUNT = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.PAYMENT_REQUIRED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.GONE,
        HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS,
    }
)


def meaning(status: int, code: int | None, subcode: int | None = None) -> Meaning:
    """Return what *code* means under HTTP *status*; a code nobody named goes by the status."""
    if code == PARAMETER and subcode == NO_OBJECT:
        return Meaning(Means.ACCOUNT, "account.object")
    if code is not None and code in CODES:
        return CODES[code]
    return by_status(status)


def failed(code: int) -> Meaning:
    """Return what *code* says as the reason why a message failed; one nobody named is final."""
    # A status without a reason has 0 here, which is another thing in the answer to a call.
    return CODES[code] if code and code in CODES else Meaning(Means.REFUSED, "refused.unnamed")


def by_status(status: int) -> Meaning:
    """Return what an answer means of which only the HTTP *status* says anything."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Meaning(Means.BUSY, "busy.http")
    if status in _ACCOUNT or HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Meaning(Means.ACCOUNT, "account.http")
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if refused and status != HTTPStatus.REQUEST_TIMEOUT:
        return Meaning(Means.REFUSED, "refused.http")
    return Meaning(Means.UNKNOWN, "unknown.http")
