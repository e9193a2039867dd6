"""Options that a decision obliges us to: in the outgoing request, or no request."""

from collections.abc import Mapping

from residency.errors import ProcessorRefusedError


def prove(wanted: Mapping[str, str], carried: Mapping[str, str], who: str) -> None:
    """
    Return if the request carries every option of *wanted* with its value.

    *carried* is what the request really says. Raises `ProcessorRefusedError` naming what it does
    not: an option that lives in the vendor's account settings cannot be seen from here.
    """
    missing = sorted(name for name, value in wanted.items() if carried.get(name) != value)
    if missing:
        raise ProcessorRefusedError(f"{who}: the request does not carry {', '.join(missing)}")
