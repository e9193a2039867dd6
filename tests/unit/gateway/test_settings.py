"""Settings: every fault at once, secrets only as private files, no development in production."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import settings
from gateway.errors import SettingsError

CANARY = "canary-7f1d-never-echo-me"
SECRETS = ("app", "verify", "access", "vault", "s3-key", "s3-secret", "opa", "admin", "nats")

DEVELOPMENT = """
[cell]
id = "eu-1"
region = "eu-central"
data = "data"
mode = "development"

[[tenants]]
id = "clinic"
controller = "Beispiel Klinik GmbH"
jurisdiction = "DE"
languages = ["de", "en"]
[tenants.whatsapp]
phone_number_ids = ["106540352242922"]
app_secret_files = ["app"]
verify_token_file = "verify"
access_token_file = "access"
"""

PRODUCTION = """
[cell]
id = "eu-1"
region = "eu-central"
data = "data"

[services]
nats = "tls://nats.example:4222"
vault = { url = "https://vault.example", token_file = "vault" }
objects = { url = "s3://sealed", access_key_file = "s3-key", secret_key_file = "s3-secret" }

[[tenants]]
id = "clinic"
controller = "Beispiel Klinik GmbH"
jurisdiction = "DE"
languages = ["de"]
[tenants.whatsapp]
phone_number_ids = ["106540352242922"]
app_secret_files = ["app"]
verify_token_file = "verify"
access_token_file = "access"
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a settings file, with replacements, beside its secrets."""
    for name in SECRETS:
        secret = tmp_path / name
        secret.write_text(f"  {name} {CANARY}\n")
        secret.chmod(0o600)

    def write(text: str, **changes: str) -> Path:
        for old, new in changes.items():
            text = text.replace(old, new)
        path = tmp_path / "cell.toml"
        path.write_text(text)
        return path

    return write


def faults(path: Path) -> list[str]:
    """Return what `load` says is wrong with *path*, and check that no secret is quoted."""
    with pytest.raises(SettingsError) as caught:
        settings.load(path)
    assert CANARY not in str(caught.value)
    return caught.value.faults


def swap(text: str, old: str, new: str) -> str:
    """Return *text* with *old*, which must be there, replaced."""
    assert old in text
    return text.replace(old, new)


def test_a_development_cell_needs_only_a_tenant(write: Write, tmp_path: Path) -> None:
    """Each service left out is an embedded default, so that one machine can run the product."""
    loaded = settings.load(write(DEVELOPMENT))

    assert loaded.services == settings.Services()
    assert loaded.cell.data == tmp_path / "data"
    assert (loaded.cell.host, loaded.cell.port) == ("127.0.0.1", 8080)
    assert loaded.outbox.unknown_grace_seconds == 120
    whatsapp = loaded.tenants[0].whatsapp
    assert whatsapp.graph_url == "https://graph.facebook.com/v23.0"
    assert whatsapp.media_hosts == ("lookaside.fbsbx.com",)
    assert whatsapp.app_secrets == (f"app {CANARY}".encode(),)
    assert whatsapp.verify_token_file.text == f"verify {CANARY}"


def test_a_production_cell_loads(write: Write) -> None:
    """Without development parts, production starts, and says what is a single node."""
    loaded = settings.load(write(PRODUCTION))

    assert loaded.production
    assert loaded.services.vault is not None
    assert loaded.services.vault.mount == "transit"
    assert len(loaded.notes) == 2
    assert all("single node" in note for note in loaded.notes)


def test_no_note_about_servers_that_are_there(write: Write) -> None:
    """A note that is always printed is not read."""
    services = 'nats = "tls://nats.example:4222"'
    servers = (
        'database = "postgresql+asyncpg://voc@db.example/voc"\nopa = "http://127.0.0.1:8181"\n'
    )

    loaded = settings.load(write(swap(PRODUCTION, services, servers + services)))

    assert loaded.notes == ()


@pytest.mark.parametrize("missing", ["nats", "vault", "objects"])
def test_production_refuses_each_embedded_default_by_name(write: Write, missing: str) -> None:
    """A cell in production must not hold keys, messages or audio in a developer's stand-in."""
    kept = [line for line in PRODUCTION.splitlines() if not line.startswith(f"{missing} =")]

    found = faults(write("\n".join(kept)))

    assert found
    assert all(f"services.{missing}: " in fault and "development" in fault for fault in found)


def test_production_without_vault_names_keyring_and_signing_key(write: Write) -> None:
    """The key that signs the log matters as much as the key that seals the audio."""
    kept = [line for line in PRODUCTION.splitlines() if not line.startswith("vault =")]

    found = " ".join(faults(write("\n".join(kept))))

    assert "local keyring" in found
    assert "local audit signing key" in found


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ('graph_url = "http://graph.example/v23.0"', "graph_url"),
        ('graph_url = "https://127.0.0.1/v23.0"', "graph_url"),
        ('graph_url = "https://localhost/v23.0"', "graph_url"),
        ('media_hosts = ["127.0.0.1:9000"]', "media_hosts"),
        ('media_hosts = ["localhost"]', "media_hosts"),
    ],
)
def test_http_and_loopback_only_in_development(write: Write, line: str, where: str) -> None:
    """A loopback Graph API is a simulator, and http would carry the access token in clear."""
    production = settings_with_whatsapp(PRODUCTION, line)
    development = settings_with_whatsapp(DEVELOPMENT, line)

    refused = faults(write(production))

    assert [where in fault and "production refuses" in fault for fault in refused] == [True]
    assert settings.load(write(development)).cell.mode is settings.Mode.DEVELOPMENT


def settings_with_whatsapp(text: str, line: str) -> str:
    """Return *text* with one more line in its last table, the tenant's WhatsApp."""
    return f"{text}\n{line}\n"


def test_production_refuses_http_to_a_vault_elsewhere(write: Write) -> None:
    """The vault's token and every wrapped key would cross the network in clear."""
    elsewhere = swap(PRODUCTION, "https://vault.example", "http://vault.example")
    beside = swap(PRODUCTION, "https://vault.example", "http://127.0.0.1:8200")

    refused = faults(write(elsewhere))

    assert "services.vault.url: " in refused[0]
    assert settings.load(write(beside)).services.vault is not None


def test_mode_is_production_unless_said_otherwise(write: Write) -> None:
    """Forgetting a line must not switch the guards off."""
    silent = swap(DEVELOPMENT, 'mode = "development"\n', "")

    found = faults(write(silent))

    assert any("local keyring" in fault for fault in found)


def test_every_fault_is_reported_at_once(write: Write) -> None:
    """An operator who repairs one fault per start gives up at the third."""
    text = swap(PRODUCTION, 'region = "eu-central"', 'region = "EU Central"\nregio = "x"')
    text = swap(text, 'jurisdiction = "DE"', 'jurisdiction = "Germany"')
    text = swap(text, 'nats = "tls://nats.example:4222"\n', "")
    text = swap(text, 'verify_token_file = "verify"', 'verify_token_file = "nowhere"')
    text += text[text.index("[[tenants]]") :]

    found = faults(write(text))

    for expected in (
        "cell.region: must be",
        "cell.regio: is not a setting (did you mean region?)",
        "services.nats: the child nats-server",
        "tenants[0].jurisdiction: must be",
        "tenants[1].jurisdiction: must be",
        "tenants[0].whatsapp.verify_token_file: ",
        "tenants: id 'clinic' is used 2 times",
        "tenants[1].whatsapp.phone_number_ids: one is tenants[0]'s",
    ):
        assert any(fault.startswith(expected) for fault in found), expected


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('id = "eu-1"', 'id = "EU_1"', "cell.id"),
        ('id = "eu-1"', "id = 1", "cell.id"),
        ('id = "eu-1"', 'id = "eu-4915112345678"', "cell.id"),
        ('id = "clinic"', 'id = "clinic-1234567"', "tenants[0].id"),
        ('region = "eu-central"', 'region = "global"', "cell.region"),
        ('data = "data"', 'data = "app"', "cell.data"),
        ('data = "data"', 'data = "data"\nlisten = "8080"', "cell.listen"),
        ('data = "data"', 'data = "data"\nlisten = "127.0.0.1:99999"', "cell.listen"),
        ('mode = "development"', 'mode = "dev"', "cell.mode"),
        ('id = "clinic"', 'id = "platform"', "tenants"),
        ('controller = "Beispiel Klinik GmbH"', 'controller = " "', "tenants[0].controller"),
        ('languages = ["de", "en"]', "languages = []", "tenants[0].languages"),
        ('languages = ["de", "en"]', 'languages = ["de", "de"]', "tenants[0].languages"),
        ('languages = ["de", "en"]', 'languages = ["de-DE"]', "tenants[0].languages[0]"),
        ('["106540352242922"]', '["+12025550101"]', "tenants[0].whatsapp.phone_number_ids[0]"),
        ('["106540352242922"]', "[]", "tenants[0].whatsapp.phone_number_ids"),
        ('["app"]', "[]", "tenants[0].whatsapp.app_secret_files"),
        ('["app"]', "[1]", "tenants[0].whatsapp.app_secret_files[0]"),
    ],
)
def test_odd_values_are_refused_with_their_path(
    write: Write, old: str, new: str, where: str
) -> None:
    """A value that nobody meant must stop the start, and say where it stands."""
    found = faults(write(swap(DEVELOPMENT, old, new)))

    assert any(fault.startswith(f"{where}: ") for fault in found), found


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("[worker]\nconcurrency = 0", "worker.concurrency"),
        ("[worker]\nconcurrency = true", "worker.concurrency"),
        ('[worker]\nconcurrency = "4"', "worker.concurrency"),
        ("[outbox]\nunknown_grace_seconds = -1", "outbox.unknown_grace_seconds"),
        ("[outbox]\nunknown_grace_seconds = 1e9", "outbox.unknown_grace_seconds"),
        ('[engines]\nwhisper_dir = "nowhere"', "engines.whisper_dir"),
        ('[registry]\nfile = "nowhere.toml"', "registry.file"),
        ("[tracing]\non = true", "tracing"),
        ('[services]\ndatabase = "mysql://db.example/x"', "services.database.url"),
        ('[services]\nnats = "https://nats.example"', "services.nats.url"),
        ('[services]\nobjects = "s3://bucket"', "services.objects.access_key_file"),
        (
            '[services.objects]\nurl = "s3://bucket"\naccept_unknown = ["luck"]',
            "services.objects.accept_unknown",
        ),
    ],
)
def test_odd_tables_are_refused_with_their_path(write: Write, table: str, where: str) -> None:
    """The same for what an operator adds: no coercion, no unknown table, no missing file."""
    found = faults(write(DEVELOPMENT + "\n" + table))

    assert any(fault.startswith(f"{where}: ") for fault in found), found


@pytest.mark.parametrize("seconds", ["0", "-1", "86401", '"60"', "true"])
def test_retention_only_tightens(write: Write, seconds: str) -> None:
    """Raw audio must never outlive a day, whatever a tenant writes."""
    text = settings_with_whatsapp(
        DEVELOPMENT, f"[tenants.retention]\nraw_audio_seconds = {seconds}"
    )

    found = faults(write(text))

    assert [f.partition(": ")[0] for f in found] == ["tenants[0].retention.raw_audio_seconds"]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("app_secret", "app_secret_files"),
        ("verify_token", "verify_token_file"),
        ("access_token", "access_token_file"),
    ],
)
def test_an_inline_secret_is_refused_and_not_echoed(write: Write, line: str, meant: str) -> None:
    """A secret in the settings file is in every backup of it; echoed, it is in every log too."""
    text = settings_with_whatsapp(DEVELOPMENT, f'{line} = "{CANARY}"')

    found = faults(write(text))

    assert found == [
        f"tenants[0].whatsapp.{line}: a secret is given as a file, never inline (use {meant})"
    ]


def test_a_services_secret_inline_is_refused(write: Write) -> None:
    """The short form of a service must not be a way around the rule."""
    services = (
        f'vault = "https://vault.example"\nvault_token = "{CANARY}"\nvault_token_file = "vault"'
    )
    text = DEVELOPMENT + f"\n[services]\n{services}"

    found = faults(write(text))

    assert found == [
        "services.vault.token: a secret is given as a file, never inline (use token_file)"
    ]


@pytest.mark.parametrize(
    "service",
    [
        f'nats = "nats://{CANARY}@nats.example:4222"',
        f'database = "postgresql+asyncpg://voc:{CANARY}@db.example/voc"',
        f'opa = "https://voc:{CANARY}@opa.example"',
    ],
)
def test_a_credential_in_a_url_is_refused_and_not_echoed(write: Write, service: str) -> None:
    """URLs are printed in many places; passwords in them would be too."""
    found = faults(write(f"{DEVELOPMENT}\n[services]\n{service}"))

    assert "holds a credential" in found[0]


def test_both_ways_to_write_a_service_are_one(write: Write) -> None:
    """A URL with its token file beside it is what people write first."""
    flat = '[services]\nvault = "https://vault.example"\nvault_token_file = "vault"'
    table = '[services]\nvault = { url = "https://vault.example", token_file = "vault" }'

    assert settings.load(write(f"{DEVELOPMENT}\n{flat}")) == settings.load(
        write(f"{DEVELOPMENT}\n{table}")
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_open_to_others_is_refused(write: Write, tmp_path: Path, mode: int) -> None:
    """Whoever else can read the app secret can sign webhooks."""
    (tmp_path / "app").chmod(mode)

    found = faults(write(DEVELOPMENT))

    assert [f"chmod 600 {tmp_path / 'app'}" in fault for fault in found] == [True]


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"x" * 20_000])
def test_a_secret_that_cannot_be_one_is_refused(
    write: Write, tmp_path: Path, content: bytes
) -> None:
    """An empty secret would accept every signature made with nothing."""
    path = write(DEVELOPMENT)
    (tmp_path / "app").write_bytes(content)

    found = faults(path)

    assert [fault.partition(": ")[0] for fault in found] == [
        "tenants[0].whatsapp.app_secret_files[0]"
    ]


def test_a_secret_must_be_a_regular_file(write: Write, tmp_path: Path) -> None:
    """Reading a named pipe would hang the start for ever."""
    path = write(DEVELOPMENT)
    (tmp_path / "app").unlink()
    os.mkfifo(tmp_path / "app", 0o600)

    found = faults(path)

    assert "is not a file" in found[0]


def test_a_missing_secret_file_is_named(write: Write, tmp_path: Path) -> None:
    """The path that was looked for is what an operator needs to see."""
    path = write(DEVELOPMENT)
    (tmp_path / "access").unlink()

    found = faults(path)

    assert str(tmp_path / "access") in found[0]


def test_secrets_are_in_no_representation(write: Write) -> None:
    """A settings object ends up in tracebacks, debuggers and support bundles."""
    text = PRODUCTION + '\n[admin]\ntoken_file = "admin"'
    loaded = settings.load(write(text))

    for shown in (repr(loaded), str(loaded), loaded.model_dump_json(), str(loaded.model_dump())):
        assert "clinic" in shown
        assert CANARY not in shown


def test_settings_are_frozen(write: Write) -> None:
    """What was checked at start must be what runs."""
    loaded = settings.load(write(DEVELOPMENT))

    with pytest.raises(ValueError, match="frozen"):
        loaded.worker.concurrency = 9


@pytest.mark.parametrize("wired", ["local", "loopback", "memory", "scripted"])
def test_production_refuses_each_development_adapter_by_name(write: Write, wired: str) -> None:
    """A registry may name an adapter that settings cannot see; compose asks before it wires."""
    production = settings.load(write(PRODUCTION))

    with pytest.raises(SettingsError, match=f"acme-stt: the {wired} adapter"):
        production.refuse_development({"acme-stt": wired, "vault": "transit"})

    assert production.refuse_development({"vault": "transit"}) is production
    development = settings.load(write(DEVELOPMENT))
    assert development.refuse_development({"acme-stt": wired}) is development


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("media.example", True),
        ("media.example:8443", True),
        ("https://media.example", False),
        ("media.example/path", False),
        ("*.example", False),
        ("169.254.169.254", False),
        ("0x7f000001", False),
        ("[::1]", False),
    ],
)
def test_media_hosts_are_plain_names(write: Write, host: str, good: bool) -> None:  # noqa: FBT001 - a column
    """The access token goes to these hosts: an address or a wildcard is somebody else's."""
    path = write(settings_with_whatsapp(DEVELOPMENT, f'media_hosts = ["{host}"]'))

    if good:
        assert settings.load(path).tenants[0].whatsapp.media_hosts == (host,)
    else:
        assert "media_hosts" in faults(path)[0]


@pytest.mark.parametrize("content", [b"[cell", b"\xff", f'["{CANARY}"]\n["{CANARY}"]'.encode()])
def test_a_file_that_is_not_toml_is_one_fault(write: Write, content: bytes) -> None:
    """The parser's own message may quote the line, and the line may hold a secret."""
    path = write("")
    path.write_bytes(content)

    found = faults(path)

    assert [fault.startswith(f"{path}: is not") for fault in found] == [True]


def test_a_file_that_is_not_there_is_one_fault(tmp_path: Path) -> None:
    """A wrong --config must say which file was looked for."""
    found = faults(tmp_path / "none.toml")

    assert found == [
        f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory (give --config)"
    ]


def test_a_tenant_is_found_by_its_id(write: Write) -> None:
    """The webhook's path names the tenant; a name that is not one must find nobody."""
    loaded = settings.load(write(DEVELOPMENT))

    assert loaded.tenant("clinic") is loaded.tenants[0]
    assert loaded.tenant("Clinic") is None


PEOPLE = """
[admin]
token_file = "admin"

[[admin.people]]
name = "d-one"
role = "dpo"
tenant = "clinic"
token_file = "d-one.token"

[[admin.people]]
name = "a-two"
role = "approver"
tenant = "platform"
token_file = "a-two.token"
"""


@pytest.fixture
def _tokens(tmp_path: Path) -> None:
    for name in ("d-one.token", "a-two.token"):
        (tmp_path / name).write_text(f"{name} {CANARY} {CANARY}")
        (tmp_path / name).chmod(0o600)


@pytest.mark.usefixtures("_tokens")
def test_people_have_a_name_a_role_a_tenant_and_a_token(write: Write) -> None:
    """The record names who it was, so a token is one person's."""
    loaded = settings.load(write(DEVELOPMENT + PEOPLE))

    first, second = loaded.admin.people
    assert (first.name, first.role, first.tenant) == ("d-one", "dpo", "clinic")
    assert second.tenant == "platform"
    assert CANARY not in repr(first)


@pytest.mark.usefixtures("_tokens")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"a-two.token"', '"d-one.token"', "two entries have one token"),
        ('"admin"', '"d-one.token"', "two entries have one token"),
        ('"a-two"', '"d-one"', "a name is used twice"),
        ('"dpo"', '"boss"', "admin.people[0].role"),
        ('"platform"', '"elsewhere"', "admin.people[1].tenant: no tenant of this cell"),
        ('"d-one"', '"Ada L."', "admin.people[0].name"),
        ('token_file = "a-two.token"', 'token = "x"', "never inline"),
    ],
)
def test_people_who_cannot_be_told_apart_are_a_fault(
    write: Write, old: str, new: str, said: str
) -> None:
    """A scraper with a person's token could erase; two people with one would approve as one."""
    assert any(said in fault for fault in faults(write(swap(DEVELOPMENT + PEOPLE, old, new))))


@pytest.mark.usefixtures("_tokens")
def test_a_servers_token_is_no_persons(write: Write) -> None:
    """The OPA server beside the cell holds one; it must not be able to erase."""
    policy = '[policy]\nopa_token_file = "d-one.token"\n'

    assert any("opa_token_file" in fault for fault in faults(write(DEVELOPMENT + PEOPLE + policy)))


@pytest.mark.usefixtures("_tokens")
def test_a_short_token_is_a_fault(write: Write, tmp_path: Path) -> None:
    """It could be guessed."""
    path = write(DEVELOPMENT + PEOPLE)
    (tmp_path / "a-two.token").write_text("x" * 31)

    assert any("at least 32 characters" in fault for fault in faults(path))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("de-fra", "eu-central"), ("eu-central-1", "eu-central"), ("ap-tokyo", "ap-singapore")],
)
def test_a_region_of_no_registry_row_is_refused(write: Write, written: str, meant: str) -> None:
    """Such a cell was ready and refused everybody: nobody stands where it says it does."""
    text = swap(DEVELOPMENT, 'region = "eu-central"', f'region = "{written}"')

    [fault] = faults(write(text))

    assert fault.startswith(f"cell.region: no processor of the registry stands in '{written}'")
    assert "us-east" in fault
    assert fault.endswith(f"nearest: {meant})")


def test_a_controller_in_the_uk_is_told_the_code(write: Write) -> None:
    """``UK`` is reserved, not assigned: the table of laws, and telephone plans, say ``GB``."""
    text = swap(DEVELOPMENT, 'jurisdiction = "DE"', 'jurisdiction = "UK"')

    [fault] = faults(write(text))

    assert fault.startswith("tenants[0].jurisdiction: must be GB ")


def test_a_cell_to_hand_on_to_stands_in_a_place_that_is_known(write: Write, tmp_path: Path) -> None:
    """Its region goes into the log of the front door: a name of nowhere would say nothing."""
    public = tmp_path / "sg-1.pem.pub"
    public.write_text("a key")
    forward = f"""
[[tenants.forward]]
cell = "sg-1"
region = "ap-tokyo"
phone_number_ids = ["2"]
seal_key_file = "{public}"
nats = {{ url = "nats://127.0.0.1:4222" }}
"""

    [fault] = faults(write(DEVELOPMENT + forward))

    assert fault.startswith("tenants[0].forward[0].region: no [region] table has 'ap-tokyo'")
    assert fault.endswith("nearest: ap-singapore)")
