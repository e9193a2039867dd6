"""
Text as telephones produce it, as plain words: what decorates them is set aside, and remembered.

- Case, accents, apostrophes, styled letters, skin tones and joiners do not count. Nor do emoji
  and emoticons: what they are is kept as *signs*, for whoever needs a yes to be nothing but yes.
- Letters one by one ("S.T.O.P.") are a word, and a sign: whoever spells may be joking.
- A letter three times in a row is one ("STOOOP", "neeein"): no word that we obey has three.
- A citation of the law ("under Article 7(3) GDPR") adds nothing to what is asked for.
"""

import re
import unicodedata
from dataclasses import dataclass

_APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʼ`´"))  # noqa: RUF001 - as keyboards produce them
_CLAUSE = re.compile(r"[.,;:!?…¡¿–—\n]+")  # noqa: RUF001 - both dashes part clauses
_SENTENCE = re.compile(r"[.!?…¡¿\n]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LONG = re.compile(r"(\w)\1{2,}")
_SPELT = re.compile(r"(?<![^\W_])[^\W\d_](?:[ .*_\-][^\W\d_]){3,}(?![^\W_])")
_SLIPPED = re.compile(r"![!1]*1[!1]*(?!\w)")  # the key of the exclamation mark, without shift
_EMOTICON = re.compile(
    r"[<>]?[:;=][-'^]?[()\[\]/\\|]+|[()\[\]]+[-'^]?[:;=]"
    r"|(?<!\w)(?:[<>]?[:;=][-'^]?[dpo3*@]+|xd+|</?3)(?!\w)",
    re.IGNORECASE,
)
_LAW = re.compile(
    r"(?:\b(?:under|pursuant to|according to|per|nach|gemäß|gemaess|laut|según|conforme(?: al?| à)?"
    r"|en vertu de|selon|conformément à|ai sensi d[ei]l?l?|nos termos do|ao abrigo do"
    r"|de acuerdo con(?: el)?)"
    r"\W*)?(?:\bl\W)?\bart(?:icle|ikel|ículo|icolo|igo)?\b\.?\s*\d+"
    r"[\s()./\d]*(?:(?:abs|par|paragraph|apartado|comma|lit|n)\b[\s().\d]*(?:\b[a-z]\b)?)*"
    r"[\s,]*(?:of the|de la|der|des|del|della|du|da|do|el)?\s*"
    r"\b(?:uk[ -]?gdpr|gdpr|ds-?gvo|rgpd|lgpd|dpa)\b",
    re.IGNORECASE,
)
_DECORATION = frozenset({"So", "Sm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """
    What a message says: *clauses* and *sentences* as words, each followed by a space.

    *signs* are the emoji, emoticons and spelt words among them; *asking* tells a question mark.
    """

    clauses: tuple[str, ...]
    sentences: tuple[str, ...]
    signs: frozenset[str]
    asking: bool


def read(text: str) -> Plain:
    """Return *text* as plain words."""
    text = _LAW.sub(" ", _SLIPPED.sub("!", text.translate(_APOSTROPHES)))
    emoticons = [*_EMOTICON.findall(text), *_SPELT.findall(text)]
    text = _SPELT.sub(_joined, _EMOTICON.sub(" ", text))
    return Plain(
        clauses=_parted(_CLAUSE, text),
        sentences=_parted(_SENTENCE, text),
        signs=frozenset([*emoticons, *filter(_decorates, text)]),
        asking="?" in text or "¿" in text,
    )


def words(text: str) -> str:
    """Return *text* as words without decoration, each followed by a space."""
    text = text.translate(_APOSTROPHES)
    text = "".join(" " if _decorates(char) else char for char in text)
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    found = _TOKEN.findall("".join(map(_bare, folded)))
    return "".join(_LONG.sub(r"\1", f"{word} ") for word in found)


def _parted(separator: re.Pattern[str], text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(words, separator.split(text))))


def _joined(spelt: re.Match[str]) -> str:
    return re.sub(r"[\W_]", "", spelt[0])


def _decorates(char: str) -> bool:
    return unicodedata.category(char) in _DECORATION


def _bare(char: str) -> str:
    kind = unicodedata.category(char)
    if kind.startswith("P"):
        return " "
    return "" if kind[0] == "M" or kind in {"Cf", "Sk"} else char  # accents, joiners, skin tones
