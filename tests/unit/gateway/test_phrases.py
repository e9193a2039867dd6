"""Phrases: what is said in six languages."""

import hashlib
import re
import string
import tomllib
from typing import Any

import pytest

from gateway import orders, phrases
from gateway.orders import Command
from gateway.phrases import LANGUAGES
from policy.jurisdictions import SHIPPED

LONGEST_NAME = "C" * 200  # what the settings allow for a controller
LAWS = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))["law"]

# The number in the words: hours of sound, days of a transcript, of a redacted one; in seconds.
TOLD = {24: 24 * 3_600, 30: 30 * 86_400, 90: 90 * 86_400}
REMOVED = {"address", "card", "health", "national_id", "phone"}  # as the notices list them

# SHA-256 of each notice of this version, for the controller "Clinic": see the test.
SHOWN = {
    "2": {
        "en": "4a6227f9c8e1bfa385a8ecc5ce695cf26b9552d3ebfdb36df4f9e8555ca90305",
        "de": "1698785ea146b35dfd35c8356891bb918c7e9a1395242bf3621512c9d7f2b2ab",
        "es": "e6b2924d0903795e4be58b4c1fbcb7e39731d1408351cbc3967fc48ded7e12a5",
        "pt": "97773cadcd59bfded381fcc4ec08062fec481a04b49d20048182b41eaa62ed0e",
        "fr": "93875ec226b8c97d0b38e1629501c235ba3c1e5cf551ae24784f0315f4e4a07c",
        "it": "9c0e7c8913b3ab8bc592083df0d34be7a9b5512ca765f5246aae5f45160a1513",
    }
}


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_notice_says_who_and_how_long_and_how_to_withdraw(language: str) -> None:
    """Consent that was not informed is void (GDPR Art. 4(11), 7(3), 13)."""
    shown = phrases.notice(language, "Clinic of Example Town")

    assert shown.text.startswith("Clinic of Example Town ")
    assert f" {phrases._BOOK[language].notice.stop}." in shown.text
    assert "WhatsApp (Meta)" in shown.text
    assert shown.language == language


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law["law"])
def test_nothing_is_kept_for_longer_than_the_notices_say(law: dict[str, Any]) -> None:
    """Every period must be told (GDPR Art. 13(2)(a)), and a raised clock must not be a lie."""
    clocks = law["retention"]

    for sound in ("raw_audio_seconds", "reply_audio_seconds"):
        assert clocks[sound] <= TOLD[24]
    assert clocks["transcript_seconds"] <= TOLD[30]
    assert clocks["redacted_seconds"] <= TOLD[90]
    assert set(law["redact"]["understand"]) >= REMOVED


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_periods_are_told_before_consent_and_again_after_withdrawal(language: str) -> None:
    """Where withdrawing deletes nothing at once, people must learn when it will be gone."""
    for text in (
        phrases.notice(language, "Clinic").text,
        phrases.say("withdrawn", language),
    ):
        assert [int(found) for found in re.findall("[0-9]+", text)] == list(TOLD)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_notice_fits_into_a_message_with_buttons(language: str) -> None:
    """WhatsApp refuses a body over 1,024 and a button title over 20 characters: nobody is asked."""
    shown = phrases.notice(language, LONGEST_NAME)

    assert len(shown.text) <= 1024
    assert 0 < len(shown.grant_title) <= 20
    assert 0 < len(shown.refuse_title) <= 20
    assert shown.grant_title != shown.refuse_title


def test_the_hash_is_over_the_words_that_were_shown() -> None:
    """The controller must be able to prove what was consented to (GDPR Art. 7(1))."""
    ours, theirs = phrases.notice("en", "Clinic"), phrases.notice("en", "Another Clinic")

    assert ours.sha256 == hashlib.sha256(ours.text.encode()).hexdigest()
    assert ours.sha256 != theirs.sha256


def test_changed_words_need_a_new_version() -> None:
    """A version names exact words: edit a notice, raise the version, and pin the new hashes."""
    found = {tag: phrases.notice(tag, "Clinic").sha256 for tag in LANGUAGES}

    assert {phrases.VERSION: found} == SHOWN


def test_a_controllers_name_is_no_template() -> None:
    """A name with braces must be shown as it is, not filled in and not fail."""
    shown = phrases.notice("en", "{stop} & {0} Ltd")

    assert "{stop} & {0} Ltd asks for your consent" in shown.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_notice_tells_people_to_write_is_obeyed(language: str) -> None:
    """Withdrawing must be as easy as consenting (GDPR Art. 7(3)); people type button titles too."""
    words = phrases._BOOK[language].notice

    assert orders.command(words.stop, [language]) is Command.WITHDRAW
    assert orders.command(words.grant, [language]) is Command.GRANT
    assert orders.command(words.refuse, [language]) is Command.REFUSE


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_everything(language: str) -> None:
    """A phrase missing in one language, or with another field, fails in front of a person."""
    words, english = phrases._BOOK[language].say, phrases._BOOK["en"].say

    assert set(words) == set(english)
    for key, phrase in words.items():
        assert _fields(phrase) == _fields(english[key]), key
        assert 0 < len(phrase) <= 300
        assert phrase.count("?") <= 1


def test_an_unknown_language_gets_the_tenants_first_then_english() -> None:
    """A person whose language we have no words in must still be told."""
    german = phrases.say("refused", "de")
    english = phrases.say("refused", "en")

    assert phrases.say("refused", "pl", fallback="de") == german
    assert phrases.say("refused", "pl", fallback="cs") == english
    assert phrases.say("refused", "pl") == english
    assert phrases.notice("pl", "Clinic", fallback="de").language == "de"


def test_a_phrase_fills_its_fields_and_knows_the_stop_word() -> None:
    """A brace in front of a person is a fault; so is another stop word than the notice's."""
    assert "“my order”" in phrases.say("confirm", "en", example="my order")
    assert "STOPP" in phrases.say("granted", "de")


def test_a_phrase_that_does_not_exist_is_loud() -> None:
    """A misspelt key is a programming fault, never an empty message."""
    with pytest.raises(KeyError):
        phrases.say("no_such_phrase", "en")
