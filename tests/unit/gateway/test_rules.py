"""A cell's rules: built here or published, and the commands that publish and roll back."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.cell import SCRIPTED
from support.publishing import Publisher
from support.settings import CANARY, Configure

from gateway import cli, settings
from gateway.compose import publication
from gateway.compose.cell import cell
from gateway.compose.rules import build, probe, registry, rules
from gateway.compose.surroundings import now
from gateway.console.bundle import Offer
from gateway.errors import MissingPartError, SettingsError
from gateway.settings import Mode
from policy import archive
from policy.errors import BundleError
from policy.model import Asked, Undecided
from residency.errors import RegistryError

POLICY = """
[policy]
source = "published.tar.gz"
verify_keys = ["{key}"]
"""


TIGHT = """
abroad = "decline"
[tenants.policy]
refused_processors = ["stt.other.eu-west"]
refused_grounds = ["scc"]
refused_purposes = ["training"]
redact = { log = ["order_number"] }
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
async def test_a_cell_whose_settings_were_tightened_leaves_its_old_law(
    configure: Configure, publisher: Publisher
) -> None:
    """A restart applies the settings: the kept release was admitted under the looser ones."""
    before = settings.load(published(configure, publisher))
    async with AsyncExitStack() as stack:
        await rules(before, stack)
    policy = POLICY.format(key=publisher.public)
    tight = configure(policy, tenant="[tenants.retention]\nraw_audio_seconds = 1\n")

    with pytest.raises(BundleError, match="raw_audio_seconds is longer"):
        await enforced(tight)

    assert "raw_audio_seconds is longer" in publication.status(settings.load(tight)).refused


@pytest.mark.anyio
async def test_a_cell_says_whether_it_would_hear_of_the_next_release(
    configure: Configure, publisher: Publisher
) -> None:
    """What follows the source is a task, and a task can end; `/readyz` would say so."""
    async with cell(settings.load(published(configure, publisher))) as built:
        follows = built.vitals.checks["policy_source"]
        following = await follows()

    assert (following, await follows()) == (True, False)


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


@pytest.mark.anyio
async def test_a_server_gets_what_was_published(configure: Configure, publisher: Publisher) -> None:
    """To the byte: it checks the signature itself."""
    loaded = settings.load(published(configure, publisher))

    async with AsyncExitStack() as stack:
        offer = (await rules(loaded, stack)).offer

        assert offer.archive() == (loaded.cell.data.parent / "published.tar.gz").read_bytes()
        assert offer.token is None


@pytest.mark.anyio
async def test_production_serves_what_is_signed(configure: Configure, publisher: Publisher) -> None:
    """A bundle that is built here has a signature if there is a key, and else stays here."""
    signed = f'[policy]\nsign_key_file = "{publisher.private}"\nopa_token_file = "token"'
    offers: list[Offer] = []

    for text in ('[admin]\ntoken_file = "token"', signed):
        loaded = settings.load(configure(text))
        strict = loaded.model_copy(
            update={"cell": loaded.cell.model_copy(update={"mode": Mode.PRODUCTION})}
        )
        async with AsyncExitStack() as stack:
            ruled = await rules(loaded, stack)
            follower = await publication.followed(
                loaded, registry(loaded), build(loaded, registry(loaded)), stack
            )
            offers += [ruled.offer, publication.offer(strict, follower)]
    unsigned, kept, ours, given = [offer.archive() for offer in offers]

    assert unsigned is not None
    assert kept is None
    assert ours is not None
    assert given is not None
    assert archive.unpack(given, keys=publisher.keys).bundle.revision == ruled.revision
    assert {offer.token for offer in offers} == {f"token-{CANARY}".encode()}


def test_grounds_and_refusals_are_in_the_bundle(configure: Configure) -> None:
    """What the settings name is what the rules read; by default nothing leaves."""
    plain = settings.load(configure())
    named = settings.load(configure('[policy]\ngrounds = ["scc", "adequacy"]', tenant=TIGHT))

    default = build(plain, registry(plain)).data
    found = build(named, registry(named)).data

    assert default["grounds"] == []
    assert default["tenants"] == {"clinic": {"retention": {}}}
    assert found["grounds"] == ["adequacy", "scc"]
    assert found["tenants"]["clinic"] == {
        "abroad": "decline",
        "redact": {"log": ["order_number"]},
        "refused": ["stt.other.eu-west"],
        "refused_grounds": ["scc"],
        "refused_purposes": ["training"],
        "retention": {},
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('grounds = ["hope"]', "policy.grounds: unknown: hope"),
        ('grounds = ["scc", "scc"]', "policy.grounds: must not name one thing twice"),
    ],
)
def test_a_ground_is_one_that_the_law_knows(configure: Configure, text: str, fault: str) -> None:
    """A word that no rule reads would look like a permission."""
    with pytest.raises(SettingsError) as caught:
        settings.load(configure(f"[policy]\n{text}"))

    assert any(said.startswith(fault) for said in caught.value.faults), caught.value.faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('refused_grounds = ["hope"]', "refused_grounds: unknown: hope"),
        ('refused_purposes = ["sell"]', "refused_purposes: unknown: sell"),
        ('refused_processors = ["a b"]', "must be the id of a processor"),
        ('redact = { screen = ["name"] }', "redact: unknown: screen"),
        ('redact = { log = ["Name"] }', "must be 1-32 of a-z _"),
    ],
)
def test_a_refusal_is_of_something(configure: Configure, text: str, fault: str) -> None:
    """One that no rule reads would look like protection."""
    with pytest.raises(SettingsError) as caught:
        settings.load(configure(tenant=f"[tenants.policy]\n{text}"))

    assert any(fault in said for said in caught.value.faults), caught.value.faults


def test_a_key_signs_what_is_built_here(configure: Configure, publisher: Publisher) -> None:
    """Beside a source it would sign nothing, and look as if it did."""
    both = POLICY.format(key=publisher.public) + f'sign_key_file = "{publisher.private}"'

    with pytest.raises(SettingsError) as caught:
        settings.load(configure(both))

    assert any("sign_key_file signs what is built here" in said for said in caught.value.faults)


def test_a_transfer_is_filed_under_a_law(configure: Configure, tmp_path: Path) -> None:
    """One under a law that nobody has heard of would never be a ground, in silence."""
    text = SCRIPTED.read_text()
    filed = """
[[processor.transfers]]
tool = "scc"
module = "2"
law = "Law of the Sea"
reference = "SCC 2026/1"
expires = 2027-01-01
"""
    table = tmp_path / "processors.toml"
    table.write_text(text + filed)

    with pytest.raises(RegistryError, match="no law 'Law of the Sea'"):
        registry(settings.load(configure(file=f'"{table}"')))


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
    policy = POLICY.format(key=publisher.public)
    tightened = configure(policy, "[tenants.retention]\nraw_audio_seconds = 60\n")
    source = config.parent / "published.tar.gz"
    source.unlink()
    key = ["--key", str(publisher.private)]
    assert run(tightened, "bundle", str(source), *key) == 0
    config = configure(policy)
    loaded = settings.load(config)
    kept = publication.releases(loaded)
    packed = archive.unpack(source.read_bytes())
    kept.keep(packed)
    kept.activate(packed, at=int(now().timestamp()))
    capsys.readouterr()

    assert run(config, "status", "--json") == 0
    before = json.loads(capsys.readouterr().out)[0]
    assert run(config, "rollback") == 0
    assert run(config, "status", "--json") == 0
    pinned = json.loads(capsys.readouterr().out.partition("\n")[2])[0]
    assert await enforced(config) == first
    assert run(config, "rollback", "--unpin") == 0

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


def test_a_row_that_the_log_would_refuse_is_no_row(configure: Configure) -> None:
    """Nothing could be recorded of it: each of its touches failed, and each note was buried."""
    rows = configure().parent / "numbered.toml"
    known = '"stt.scripted.eu-central"'
    rows.write_text(SCRIPTED.read_text().replace(known, '"stt.account-4915112345678"'))
    asked = settings.load(configure(file=f'"{rows}"'))

    with pytest.raises(RegistryError, match=r"processor: its id or region looks like a number"):
        registry(asked)
