"""Reading one log: its leaves by artifact, job or touch, its checkpoint, and proofs."""

from collections.abc import Sequence

from audit import leaf, merkle, note, proof, tiles
from audit.errors import NotInLogError, StoreError
from audit.model import Leaf
from audit.note import Checkpoint
from audit.ports import LogReads, Query
from audit.tiles import Tile


class Reader:
    """One log, for reading; safe beside the process that writes it."""

    def __init__(self, reads: LogReads) -> None:
        self._reads = reads

    async def leaves(
        self, *, artifact: str | None = None, job: str | None = None, touch: str | None = None
    ) -> list[Leaf]:
        """Return the leaves of one artifact, job or touch (name exactly one), oldest first."""
        if [artifact, job, touch].count(None) != 2:  # noqa: PLR2004 - all but one
            raise ValueError("name exactly one of artifact, job and touch")
        return await self._decoded(Query(artifact=artifact, job=job, touch=touch))

    async def unended(self, job: str | None = None) -> list[Leaf]:
        """Return each ``touch.began`` that has no ``touch.ended``, of *job* or of all."""
        began = await self._decoded(Query(open_touches=True))
        return [each for each in began if job is None or each.event.job == job]

    async def checkpoint(self) -> str:
        """Return the newest signed checkpoint (a C2SP note); `StoreError` before the first."""
        text = await self._reads.checkpoint()
        if text is None:
            raise StoreError("the log has no checkpoint yet")
        return text

    async def head(self) -> tuple[str, Checkpoint]:
        """Return the newest note and what it says; its signature is not checked here."""
        text = await self.checkpoint()
        return text, note.unverified(text)

    async def prove(self, index: int) -> str:
        """Return the ``.tlog-proof`` text of leaf *index*, or raise `NotInLogError`."""
        text, head = await self.head()
        if not 0 <= index < head.size:
            raise NotInLogError(f"{head.origin}: no leaf {index} among {head.size}")
        hashes = tiles.range_hash(await self.tiles(tiles.above(index, head.size)))
        path = merkle.inclusion_proof(index, head.size, hashes)
        [data] = await self.entries(index, index + 1)
        return proof.render(data, index, path, text)

    async def prove_growth(self, old: int) -> list[bytes]:
        """Return the consistency proof from the tree of *old* leaves to the newest one."""
        _, head = await self.head()
        if not 0 <= old <= head.size:
            raise NotInLogError(f"{head.origin}: never had {old} leaves yet")
        hashes = await self.tiles(tiles.above(max(old - 1, 0), head.size))
        return merkle.consistency_proof(old, head.size, tiles.range_hash(hashes))

    async def entries(self, begin: int, end: int) -> list[bytes]:
        """Return the exact bytes of the entries *begin..end*, all of them."""
        found = await self._reads.entries(Query(span=(begin, end)))
        if [index for index, _ in found] != list(range(begin, end)):
            raise StoreError(f"entries {begin} to {end} are not all there")
        return [data for _, data in found]

    async def span(self, begin: int, end: int) -> list[Leaf]:
        """Return the leaves *begin..end*, all of them."""
        found = enumerate(await self.entries(begin, end), start=begin)
        return [leaf.decode(index, data) for index, data in found]

    async def tiles(self, places: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return the hashes of *places*, all of them."""
        found = await self._reads.tiles(places)
        if missing := [tiles.path(place) for place in places if place not in found]:
            raise StoreError(f"{missing[0]} is missing")
        return found

    async def close(self) -> None:
        """Release the store; safe to call twice."""
        await self._reads.close()

    async def _decoded(self, query: Query) -> list[Leaf]:
        return [leaf.decode(index, data) for index, data in await self._reads.entries(query)]
