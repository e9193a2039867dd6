"""The second half of the story: what a data protection officer asks, and what can be shown."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.demo import watching
from gateway.demo.claims import Claims
from gateway.demo.town import Resident, Town
from policy import receipt
from policy.errors import ReceiptError

LATE_S = 60
SOFT_S = 2


async def deletion(town: Town, claims: Claims) -> None:
    """Wei's recording falls due and is destroyed."""
    wei = town.residents["Wei"]
    claims.scene("6. In Singapore Brightline keeps recordings for 45 seconds. Wei's falls due.")
    stored = next(leaf for leaf in await watching.leaves(wei) if leaf["type"] == "artifact.stored")
    due = datetime.fromtimestamp(stored["detail"]["due"], UTC)
    claims.tell(f"Due at {due:%H:%M:%S} UTC.")
    gone = await watching.until(
        lambda: watching.destroyed(wei, stored["artifact"]), watching.PATIENCE_S + 45
    )
    detail = gone["detail"] if gone else {}
    claims.claim(
        "It is destroyed, and reading it back failed.", holds=detail.get("verified") is True
    )
    claims.claim("Not a minute late.", holds=detail.get("late_seconds", 99) < LATE_S)


async def receipt_asked(town: Town, claims: Claims) -> None:
    """Anna asks for a receipt of her consent, and anybody can check it."""
    anna = town.residents["Anna"]
    claims.scene("7. Anna writes: my receipt.")
    await anna.person.type("my receipt")
    document = await watching.message(anna, "document")
    leaves = await watching.leaves(anna)
    kids = [leaf["detail"]["key"] for leaf in leaves if leaf["type"] == "receipt.issued"]
    claims.tell(f"Fernruf: {document.filename} ({len(document.text)} bytes of JSON-LD)")
    claims.claim("It comes as a file in the chat.", holds=document.filename.endswith(".json"))
    claims.claim(
        "Its signature is by the key that the log names.",
        holds=any(_signed(document.text, kid) for kid in kids),
    )


def _signed(text: str, kid: str) -> bool:
    try:
        return bool(receipt.verify(text.encode(), kid))
    except ReceiptError:
        return False


async def where(town: Town, claims: Claims) -> None:
    """Ask where Anna's recording was in the minute in which it was transcribed."""
    anna = town.residents["Anna"]
    claims.scene("8. A data protection officer asks about Anna's first recording.")
    leaves = await watching.leaves(anna)
    heard = next(
        leaf for leaf in leaves if leaf.get("action") == "transcribe" and "outcome" not in leaf
    )
    began = datetime.fromtimestamp(heard["ts"] / 1e6, UTC)
    at = (began + timedelta(milliseconds=1)).isoformat()
    claims.tell(f"$ vocustody where {heard['artifact']} --at {at}")
    status, said = await watching.vocustody(anna, "where", heard["artifact"], "--at", at)
    claims.tell(said.strip())
    holds = status == 0 and heard["processor"] in said and "eu-central" in said
    claims.claim("The answer names the place and the processor.", holds=holds)


async def why(town: Town, claims: Claims) -> None:
    """Ask why that processor, and why none of the others."""
    anna = town.residents["Anna"]
    claims.scene("9. Why that processor, and no other?")
    leaves = await watching.leaves(anna)
    decision = next(
        leaf["decision"]
        for leaf in leaves
        if leaf["type"] == "policy.decided" and leaf.get("action") == "transcribe"
    )
    claims.tell(f"$ vocustody policy explain {decision}")
    status, said = await watching.vocustody(anna, "policy", "explain", decision, "--json")
    found: dict[str, Any] = json.loads(said) if status == 0 else {}
    rows: list[dict[str, Any]] = found.get("processors", [])
    for row in rows:
        if row["rank"]:
            claims.tell(f"chosen {row['rank']}: {row['processor']} ({row['ground']})")
    codes = Counter(row["reasons"][0] for row in rows if row["reasons"])
    claims.tell("not chosen: " + ", ".join(f"{code} {n}" for code, n in sorted(codes.items())))
    claims.claim(
        "The decision is reproduced, byte for byte.", holds=found.get("reproduced") is True
    )
    claims.claim(
        f"Each of the registry's {len(rows)} processors is chosen, or has its reason.",
        holds=bool(rows) and all(bool(row["rank"]) != bool(row["reasons"]) for row in rows),
    )


async def proof(town: Town, claims: Claims) -> None:
    """Export Anna's log, verify it, flip one bit, verify again."""
    anna = town.residents["Anna"]
    claims.scene("10. The log is exported and verified; then one bit of it is flipped.")
    pack = anna.cell.config.parent / "pack"
    status, said = await watching.vocustody(anna, "export-log", str(pack))
    claims.claim(f"The running cell's log is exported ({said.strip()}).", holds=status == 0)
    status, said = await watching.vocustody(anna, "verify", str(pack))
    claims.tell(said.strip().splitlines()[0])
    claims.claim("verify: every leaf, tile and signature holds.", holds=status == 0)
    bundle = next(path for path in (pack / "tile" / "entries").rglob("*") if path.is_file())
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    status, said = await watching.vocustody(anna, "verify", str(pack))
    claims.tell(said.strip().splitlines()[-1])
    claims.claim("verify: the flipped bit is found.", holds=status == 1)


async def erased(town: Town, claims: Claims) -> None:
    """Anna is erased, and a certificate that anybody can check says so."""
    anna = town.residents["Anna"]
    claims.scene("12. Anna asks to be erased.")
    subject = next(leaf["subject"] for leaf in await watching.leaves(anna) if "subject" in leaf)
    asked = ("erase", subject, "--because", "she asked", "--by", "officer", "--hard", "--json")
    claims.tell(f"$ vocustody erase {subject} --because 'she asked' --by officer --hard")
    status, said = await watching.vocustody(anna, *asked)
    row: dict[str, Any] = json.loads(said)[0] if status == 0 else {}
    took = _took(row)
    claims.claim(
        f"Within {SOFT_S} seconds her keys and rows are gone ({took:.1f} s).", holds=took <= SOFT_S
    )
    ident = row.get("erasure", "")
    done = await watching.until(lambda: _certificate(anna, ident), watching.PATIENCE_S)
    made: dict[str, Any] = done["certificate"] if done else {}
    for each in made.get("copies", []):
        claims.tell(f"{each['class']}: {each['count']} erased by {each['method']}")
    for each in made.get("residuals", []):
        claims.tell(f"kept: {each['class']}, {each['ground']}")
    trials = [trial["held"] for trial in made.get("trials", [])]
    claims.claim(
        f"{len(trials)} tries to read what was erased fail.", holds=bool(trials) and all(trials)
    )
    path = anna.cell.config.parent / "certificate.json"
    path.write_text(json.dumps(done))
    vkey = (anna.cell.config.parent / "pack" / "vkey").read_text().strip()
    status, said = await watching.vocustody(anna, "verify", str(path), "--key", vkey)
    claims.tell(said.strip().splitlines()[-2] if status == 0 else said.strip())
    claims.claim("verify: the certificate holds, with the log's key alone.", holds=status == 0)


def _took(row: dict[str, Any]) -> float:
    """Return the seconds from asking to executed; infinite if it was not."""
    if not row.get("executed"):
        return float("inf")
    moments = [datetime.fromisoformat(row[name]) for name in ("asked", "executed")]
    return (moments[1] - moments[0]).total_seconds()


async def _certificate(resident: Resident, ident: str) -> dict[str, Any] | None:
    status, said = await watching.vocustody(resident, "erasures", "certificate", ident)
    found: dict[str, Any] = json.loads(said) if status == 0 else {}
    return found or None


async def kept_apart(town: Town, claims: Claims) -> None:
    """Each cell's log names its own region only."""
    claims.scene("11. Four jurisdictions, kept apart (regions as the registry declares them).")
    for resident in town.residents.values():
        leaves = await watching.leaves(resident)
        regions = {leaf["region"] for leaf in leaves if "region" in leaf}
        own = regions == {resident.place.region}
        count = len([leaf for leaf in leaves if leaf["type"] == "touch.began"])
        claims.claim(
            f"{resident.place.region}: {count} touches, each by a processor of that region.",
            holds=own,
        )
    sent = [
        leaf["detail"]
        for resident in town.residents.values()
        for leaf in await watching.leaves(resident)
        if leaf["type"] == "touch.ended" and leaf["processor"].startswith("msg.")
    ]
    claims.claim(
        f"All {len(sent)} touches by WhatsApp: the broker saw the address and counted the bytes.",
        holds=bool(sent) and all(detail.get("peers") and detail.get("bytes") for detail in sent),
    )
