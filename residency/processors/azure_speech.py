"""
`SpeechToText` on Azure Speech, at one region's endpoint, through Microsoft's native SDK.

- The SDK opens its own sockets and threads, and waits 70 s for a silent server: each call runs
  in a child process, which a cancel kills. When a call is over nobody sends for it any more.
- No passage, no call: the SDK is given the broker as its proxy, and nothing else of ours.
- Every physical connection is counted: the SDK re-sends the whole audio on each.

Trusted for the words it returns, not for where it keeps audio. It discloses operating system,
kernel and SDK version in every handshake.
"""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from residency.errors import EngineMissingError, ProcessorBusyError, ProcessorRefusedError
from residency.model import INSIDE, Audio, Observed, Passage, Processor, Transcript
from residency.processors import azure_native, azure_row, options
from residency.processors.azure_native import Answer, Call, Phrase
from residency.processors.child import Child

DEADLINE_S = 60.0  # the caller's is the one that counts; this one ends what it forgot
REFUSED = frozenset({"AuthenticationFailure", "BadRequest", "Forbidden", azure_native.UNPROVEN})


class AzureSpeechToText:
    """
    Azure Speech as one registry row describes it; *roots* are PEM, None for the system's.

    Raises `RegistryError` when the row's host and region do not agree, `EngineMissingError`
    when the SDK is not installed.
    """

    def __init__(
        self,
        processor: Processor,
        *,
        key: str,
        roots: str | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.processor = processor
        self._pins = azure_row.read(processor)
        if not installed():
            raise EngineMissingError(f"{processor.id}: no Azure Speech SDK ({azure_native.FIX})")
        self._key = key
        self._roots = roots or ""
        self._deadline_s = deadline_s
        self._children = [
            Child(processor.id, azure_native.load) for _ in range(self._pins.max_calls)
        ]
        self._idle: asyncio.LifoQueue[Child] = asyncio.LifoQueue()
        for child in self._children:
            self._idle.put_nowait(child)

    async def warm(self) -> None:
        """Load the SDK now (about 0.3 s); nothing is dialled."""
        async with self._child() as child:
            await child.warm()

    async def transcribe(
        self, audio: Audio, *, languages: Sequence[str], passage: Passage = INSIDE
    ) -> Transcript:
        """See `SpeechToText.transcribe`; audio without speech is not shown to the vendor."""
        self._check(passage)
        locales = self._pins.served(languages)
        if not audio.pcm or audio.voiced_seconds <= 0:
            return Transcript(text="", language=_primary(locales[0]), confidence=0.0)
        answer = await self._ask(self._call(audio, locales, passage))
        if answer.error:
            error = ProcessorRefusedError if answer.error in REFUSED else ProcessorBusyError
            raise error(f"{self.processor.id}: {answer.error}")
        return self._transcript(answer, locales[0])

    async def aclose(self) -> None:
        """End the children."""
        for child in self._children:
            await child.aclose()

    def _check(self, passage: Passage) -> None:
        if not (passage.proxy and passage.ticket and passage.secret):
            raise ProcessorRefusedError(f"{self.processor.id}: no passage through the broker")
        wanted = {**self.processor.options, **passage.options}
        options.prove(wanted, azure_native.SAFE, self.processor.id)

    def _call(self, audio: Audio, locales: tuple[str, ...], passage: Passage) -> Call:
        return Call(
            host=self._pins.host,
            locales=locales,
            pcm=audio.pcm,
            key=self._key,
            proxy=passage.proxy,
            ticket=passage.ticket,
            secret=passage.secret,
            roots=self._roots,
            retries=self._pins.max_connections - 1,
            max_connections=self._pins.max_connections,
        )

    async def _ask(self, call: Call) -> Answer:
        async with self._child() as child:
            try:
                async with asyncio.timeout(self._deadline_s):
                    answer: Answer = await child.ask(call)
            except TimeoutError:
                raise ProcessorBusyError(f"{self.processor.id}: no answer in time") from None
        return answer

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[Child]:
        child = await self._idle.get()
        try:
            yield child
        finally:
            self._idle.put_nowait(child)

    def _transcript(self, answer: Answer, asked: str) -> Transcript:
        told = next((phrase.locale for phrase in answer.phrases if phrase.locale), asked)
        return Transcript(
            text=" ".join(phrase.text for phrase in answer.phrases if phrase.text),
            language=_primary(told),
            confidence=confidence(answer.phrases),
            observed=Observed(
                request_id=answer.request_id or answer.session,
                connections=answer.connections,
            ),
        )


def installed() -> bool:
    """Whether the SDK is there; it is loaded in the child alone."""
    try:
        return importlib.util.find_spec("azure.cognitiveservices.speech") is not None
    except ModuleNotFoundError:
        return False


def confidence(phrases: Sequence[Phrase]) -> float:
    """Return the mean confidence in [0, 1], weighted by how long each phrase is."""
    spoken = [phrase for phrase in phrases if phrase.text]
    ticks = sum(phrase.ticks for phrase in spoken)
    if not ticks:
        return min((_share(phrase.confidence) for phrase in spoken), default=0.0)
    return sum(_share(phrase.confidence) * phrase.ticks for phrase in spoken) / ticks


def _share(given: float) -> float:
    return min(max(given, 0.0), 1.0)


def _primary(locale: str) -> str:
    return locale.partition("-")[0].lower()
