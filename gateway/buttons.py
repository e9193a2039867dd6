"""The buttons under questions about withdrawing and erasing: ids, and titles by language."""

from gateway import phrases, plain
from gateway.orders import LONGEST

WITHDRAW = "withdraw.confirm"
KEEP = "withdraw.keep"
ERASE = "erase.confirm"
KEEP_DATA = "erase.keep"

_TITLES = {
    WITHDRAW: "button_withdraw",
    KEEP: "button_keep",
    ERASE: "button_erase",
    KEEP_DATA: "button_keep_data",
}

Button = tuple[str, str]


def button(ident: str, language: str) -> Button:
    """Return the button *ident* as WhatsApp is given it: its id, and its title in *language*."""
    return ident, phrases.say(_TITLES[ident], language)


def confirming(language: str) -> str:
    """Return the id of the button that erases: it names the language of the last answer."""
    return f"{ERASE}.{language}"


def titled(text: str, ident: str) -> bool:
    """Whether *text* is the title of the button *ident*, typed, in any of our languages."""
    said = plain.words(text[:LONGEST])
    return any(said == plain.words(button(ident, tag)[1]) for tag in phrases.LANGUAGES)
