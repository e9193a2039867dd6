"""An adapter as the gateway uses it: every call under a passage of its own."""

from collections.abc import Sequence

from residency.model import INSIDE, Audio, Contact, Grant, Passage, Transcript
from residency.ports import Egress, SpeechToText


class Ticketed:
    """`SpeechToText` through *egress*; *contacts* are those of all calls so far."""

    def __init__(self, adapter: SpeechToText, egress: Egress) -> None:
        self.processor = adapter.processor
        self.contacts: list[Contact] = []
        self._adapter = adapter
        self._egress = egress

    async def transcribe(
        self, audio: Audio, *, languages: Sequence[str], passage: Passage = INSIDE
    ) -> Transcript:
        """See `SpeechToText.transcribe`."""
        row = self.processor
        grant = Grant(processor=row.id, decision="d", touch="t", hosts=row.hosts, seconds=30)
        passage = await self._egress.admit(grant)
        try:
            return await self._adapter.transcribe(audio, languages=languages, passage=passage)
        finally:
            self.contacts += await self._egress.end(passage)

    async def aclose(self) -> None:
        """See `SpeechToText.aclose`."""
        await self._adapter.aclose()
