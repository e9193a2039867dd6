"""A cell's rules: built here or published, and the commands that publish and roll back."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.publishing import Publisher
from support.settings import Configure

from gateway import cli, settings
from gateway.compose import publication
from gateway.compose.rules import probe, registry, rules
from gateway.compose.surroundings import now
from gateway.errors import MissingPartError, SettingsError
from policy import archive
from policy.errors import BundleError
from policy.model import Asked, Undecided

POLICY = """
[policy]
source = "published.tar.gz"
verify_keys = ["{key}"]
"""


def published(configure: Configure, publisher: Publisher) -> Path:
    """Return the settings of a cell that follows a source, which has a bundle."""
    plain, source = configure(), "published.tar.gz"
    file = str(plain.parent / source)
    assert run(plain, "bundle", file, "--key", str(publisher.private)) == 0
    return configure(POLICY.format(key=publisher.public))


async def enforced(config: Path) -> str:
    """Start the rules of a cell once, and return what it enforces."""
    async with AsyncExitStack() as stack:
        return (await rules(settings.load(config), stack)).revision


@pytest.mark.anyio
async def test_a_bundle_that_is_built_here_has_no_age(configure: Configure) -> None:
    """Registry and settings are on this machine; nobody else stands by them."""
    loaded = settings.load(configure())

    async with AsyncExitStack() as stack:
        ruled = await rules(loaded, stack)
        found = await ruled.decide(probe("eu-central", now()))

    assert ruled.age() == 0
    assert not isinstance(found, Undecided)
    assert found.provenance.revision == ruled.revision
    assert publication.releases(loaded).bundle(ruled.revision)


@pytest.mark.anyio
async def test_a_published_bundle_is_enforced(configure: Configure, publisher: Publisher) -> None:
    """And each question says how old it is, whatever its caller thinks."""
    loaded = settings.load(published(configure, publisher))
    asked: list[Asked] = []

    async with AsyncExitStack() as stack:
        await rules(loaded, stack)
    kept = publication.releases(loaded)
    assert kept.state is not None
    kept.confirm(kept.state, at=kept.state.confirmed - 5000)
    (loaded.cell.data.parent / "published.tar.gz").unlink()
    async with AsyncExitStack() as stack:
        ruled = await rules(loaded, stack)
        await ruled.decide(probe("eu-central", now()), asked.append)

    assert ruled.age() >= 5000
    assert asked[0].question["bundle_age"] >= 5000


@pytest.mark.anyio
async def test_a_strangers_bundle_starts_no_cell(
    configure: Configure, publisher: Publisher, stranger: Publisher
) -> None:
    """Better no cell than one under anybody's law."""
    config = published(configure, publisher)
    source = config.parent / "published.tar.gz"
    archive.place(archive.sign(source.read_bytes(), stranger.signer), source)

    with pytest.raises(BundleError, match="none of the verification keys"):
        await enforced(config)


def test_a_source_needs_a_key(configure: Configure) -> None:
    """Unsigned law is refused at start, by the name of the setting."""
    config = configure('[policy]\nsource = "published.tar.gz"')

    with pytest.raises(SettingsError) as caught:
        settings.load(config)

    assert any("verify_keys" in fault for fault in caught.value.faults)


def test_http_is_for_this_machine(configure: Configure, publisher: Publisher) -> None:
    """In production a bundle comes over TLS, or from here."""
    text = f'[policy]\nsource = "http://law.example/b"\nverify_keys = ["{publisher.public}"]'
    config = configure(text, mode='"production"')

    with pytest.raises(SettingsError) as caught:
        settings.load(config)

    assert any(fault.startswith("policy.source") for fault in caught.value.faults)


def run(config: Path, *command: str) -> int:
    """Run one policy command."""
    return cli.main(["policy", *command, "--config", str(config)])


def test_check_says_why(
    configure: Configure,
    publisher: Publisher,
    stranger: Publisher,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before it is published: 0 for yes, 1 and the fault for no."""
    config = published(configure, publisher)
    source = config.parent / "published.tar.gz"
    other = source.with_name("other.tar.gz")
    other.write_bytes(source.read_bytes())

    assert run(config, "check", str(source)) == 0
    assert cli.main(["policy", "sign", str(other), "--key", str(stranger.private)]) == 0
    assert run(config, "check", str(other)) == 1
    assert "signed by none of the verification keys" in capsys.readouterr().out


def test_a_signing_key_is_its_owners(
    configure: Configure, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who can read it can make law."""
    config = published(configure, publisher)
    publisher.private.chmod(0o644)

    command = ["policy", "sign", str(config.parent / "published.tar.gz")]
    assert cli.main([*command, "--key", str(publisher.private)]) == 2
    assert "open to group or world" in capsys.readouterr().err


@pytest.mark.anyio
async def test_status_and_rollback(
    configure: Configure, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    """The release before is one command away, and the way back another."""
    config = published(configure, publisher)
    first = await enforced(config)
    tightened = configure(
        POLICY.format(key=publisher.public), "[tenants.retention]\nraw_audio_seconds = 60\n"
    )
    loaded = settings.load(tightened)
    source = config.parent / "published.tar.gz"
    source.unlink()
    key = ["--key", str(publisher.private)]
    assert run(tightened, "bundle", str(source), *key) == 0
    kept = publication.releases(loaded)
    packed = archive.unpack(source.read_bytes())
    kept.keep(packed)
    kept.activate(packed, at=int(now().timestamp()))
    capsys.readouterr()

    assert run(tightened, "status", "--json") == 0
    before = json.loads(capsys.readouterr().out)[0]
    assert run(tightened, "rollback") == 0
    assert run(tightened, "status", "--json") == 0
    pinned = json.loads(capsys.readouterr().out.partition("\n")[2])[0]
    assert await enforced(tightened) == first
    assert run(tightened, "rollback", "--unpin") == 0

    assert (before["active"], before["previous"]) == (packed.bundle.revision, first)
    assert before["pinned"] == ""
    assert pinned["pinned"] == first
    assert kept.pinned is None


def test_a_bundle_built_here_is_not_rolled_back(configure: Configure) -> None:
    """Change the settings instead: there is nothing that was published."""
    with pytest.raises(MissingPartError, match="built here"):
        publication.roll_back(settings.load(configure()), None)


def test_a_status_needs_a_release(configure: Configure) -> None:
    """Before the first start there is none."""
    with pytest.raises(MissingPartError, match="has the gateway run once"):
        publication.status(settings.load(configure()))


def test_a_refusal_is_a_finding(
    configure: Configure, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cron job that asks for the status hears of it."""
    loaded = settings.load(published(configure, publisher))
    kept = publication.releases(loaded)
    kept.activate(archive.unpack((loaded.cell.data.parent / "published.tar.gz").read_bytes()), at=1)
    kept.refuse("unsigned", at=2)

    assert run(loaded.cell.data.parent / "vocustody.toml", "status") == 1
    assert "unsigned" in capsys.readouterr().out
    assert registry(loaded)
