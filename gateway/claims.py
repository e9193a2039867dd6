"""
Replies claim only what happened: which of an assistant's answers say that something was done.

A heuristic over the first person's verbs, for whoever writes an ``assistant.toml``: the gateway
answers and does nothing else, unless an intent says ``hand_over = true``.
"""

import re
from collections.abc import Iterator

from gateway.assistant import AssistantFile

_DONE = {
    "de": r"(notiert|vermerkt|vorgemerkt|storniert|gebucht|abgesagt|weitergeleitet|weitergegeben|"
    r"reserviert|gespeichert|bestellt|eingetragen|geändert|gelöscht|veranlasst)",
    "en": r"(i|we)( have|'ve|’ve)? (noted|booked|cancell?ed|forwarded|passed|saved|reserved|"  # noqa: RUF001 - as keyboards produce it
    r"registered|ordered|changed|updated|scheduled|deleted|recorded|arranged)",
    "es": r"(he|hemos) (anotado|apuntado|cancelado|anulado|reservado|registrado|enviado|pasado|"
    r"cambiado|pedido|guardado|borrado|tomado nota)",
    "fr": r"(j['’ ]ai|nous avons) (bien )?(noté|annulé|réservé|enregistré|transmis|envoyé|modifié|"  # noqa: RUF001 - same
    r"commandé|supprimé|pris note)",
    "it": r"(ho|abbiamo) (annotato|preso nota|annullato|disdetto|prenotato|registrato|inoltrato|"
    r"passato|modificato|ordinato|cancellato)",
    "pt": r"(anotei|anotamos|cancelei|cancelamos|reservei|reservamos|agendei|agendamos|registrei|"
    r"registramos|encaminhei|encaminhamos|alterei|pedi|apaguei)",
}
_CLAIMS = {tag: re.compile(rf"\b{words}\b", re.IGNORECASE) for tag, words in _DONE.items()}


def unfounded(file: AssistantFile) -> Iterator[str]:
    """Yield the paths of the replies that say something was done which nobody is told to do."""
    for index, intent in enumerate(file.intents):
        for tag, reply in sorted(intent.replies.items()):
            claims = _CLAIMS.get(tag)
            if not intent.hand_over and claims and claims.search(reply):
                yield f"intents[{index}].replies.{tag}"
