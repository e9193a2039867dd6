"""
A question as the JSON that rules read, checked before any engine sees it.

- Every key is present and nothing is null: an absent value makes rules vanish silently. "No
  consent" is a sentinel with state ``none``.
- ``controller`` alone may be absent: questions that were kept before it was a fact are replayed.
- Who the person is (pseudonym, keyed evidence) is left out: no rule needs it, and engines log.
- The schema that ``opa check`` reads is the schema applied here: `check` is a reader of the
  few JSON Schema words it uses, and refuses a schema with any other.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from policy.errors import QuestionError
from policy.model import Consent, Question


def schema(name: str) -> Mapping[str, Any]:
    """Return one of the schemas that ship with the rules."""
    path = Path(__file__).parent / "rego" / "schemas" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


SCHEMA = schema("question")

NO_CONSENT: Mapping[str, Any] = {
    "at": 0,
    "expires_at": 0,
    "id": "",
    "notice_sha256": "",
    "notice_version": "",
    "purpose": "",
    "state": "none",
    "tenant": "",
}

_TYPES = {"array": list, "boolean": bool, "integer": int, "object": dict, "string": str}


def as_input(question: Question) -> dict[str, Any]:
    """Return *question* as the ``input`` document; `check` it before use."""
    return {
        "bundle_age": question.bundle_age,
        "consent": consent_as_input(question.consent),
        "controller": question.controller,
        "data_class": str(question.data_class),
        "held": question.held,
        "jurisdiction": question.jurisdiction,
        "languages": list(question.languages),
        "minor": question.minor,
        "now": question.now,
        "purpose": question.purpose,
        "region": question.region,
        "stage": str(question.stage),
        "suspended": list(question.suspended),
        "tenant": question.tenant,
        "transfer_consent": consent_as_input(question.transfer_consent),
    }


def consent_as_input(consent: Consent | None) -> dict[str, Any]:
    """Return *consent* as rules read it; None becomes the sentinel."""
    if consent is None:
        return dict(NO_CONSENT)
    return {
        "at": consent.at,
        "expires_at": consent.expires_at,
        "id": consent.id,
        "notice_sha256": consent.notice_sha256,
        "notice_version": consent.notice_version,
        "purpose": consent.purpose,
        "state": str(consent.state),
        "tenant": consent.tenant,
    }


def check(value: Any, rules: Mapping[str, Any] = SCHEMA, path: str = "") -> None:
    """
    Return if *value* fits the schema *rules*.

    Raises:
        QuestionError: it does not; the message names the path and the rule, never the value.

    """
    _typed(value, rules["type"], path)
    for word, rule in rules.items():
        _CHECKS[word](value, rule, rules, path)


def _typed(value: Any, name: str, path: str) -> None:
    # type(), not isinstance(): True is an int to Python, not to a rule.
    if type(value) is not _TYPES[name]:
        raise QuestionError(path, f"is not of type {name}")


def _required(value: Any, rule: Any, _schema: Any, path: str) -> None:
    for name in rule:
        if name not in value:
            raise QuestionError(_join(path, name), "is missing")


def _closed(value: Any, rule: Any, schema: Any, path: str) -> None:
    if rule is not False:
        raise ValueError("additionalProperties is false in every object of a question")
    if set(value) - set(schema["properties"]):
        raise QuestionError(path, "has a key that no rule knows")


def _properties(value: Any, rule: Any, _schema: Any, path: str) -> None:
    for name in value.keys() & rule.keys():
        check(value[name], rule[name], _join(path, name))


def _items(value: Any, rule: Any, _schema: Any, path: str) -> None:
    for index, item in enumerate(value):
        check(item, rule, _join(path, str(index)))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _bound(holds: Callable[[Any, Any], object], fault: str) -> Callable[[Any, Any, Any, str], None]:
    def apply(value: Any, rule: Any, _schema: Any, path: str) -> None:
        if not holds(value, rule):
            raise QuestionError(path, fault)

    return apply


def _pass(*_: Any) -> None:
    """Accept what says nothing about the value."""


_CHECKS: Mapping[str, Callable[[Any, Any, Any, str], None]] = {
    "$schema": _pass,
    "additionalProperties": _closed,
    "enum": _bound(lambda value, rule: value in rule, "is none of the known words"),
    "items": _items,
    "maxItems": _bound(lambda value, rule: len(value) <= rule, "has too many items"),
    "maximum": _bound(lambda value, rule: value <= rule, "is too large"),
    "minItems": _bound(lambda value, rule: len(value) >= rule, "has too few items"),
    "minimum": _bound(lambda value, rule: value >= rule, "is too small"),
    "pattern": _bound(
        lambda value, rule: re.search(rule.replace("$", r"\Z"), value), "is malformed"
    ),
    "properties": _properties,
    "required": _required,
    "title": _pass,
    "type": _pass,
}
