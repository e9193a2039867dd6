"""How a cell and its keeper log in: one way each, all faults told, every secret a file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import settings
from gateway.errors import SettingsError

CANARY = "canary-2b90-never-echo-me"
CELL = """
[cell]
id = "eu-1"
region = "eu-central"
data = "data"

[services]
nats = "tls://nats.example:4222"
objects = {{ url = "s3://sealed", access_key_file = "s3", secret_key_file = "s3" }}

[services.vault]
url = "https://vault.example"
{ways}

[[tenants]]
id = "clinic"
controller = "Beispiel Klinik GmbH"
jurisdiction = "DE"
languages = ["de"]
[tenants.whatsapp]
phone_number_ids = ["106540352242922"]
app_secret_files = ["app"]
verify_token_file = "app"
access_token_file = "app"
"""
APPROLE = 'approle = { role_id_file = "role", secret_id_file = "secret" }'
KEEPER = 'keeper_approle = { role_id_file = "role-2", wrapped_secret_id_file = "wrapped" }'
POD = 'kubernetes = { role = "cell", jwt_file = "jwt" }'

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a production cell's settings with some ways to log in."""
    for name in ("app", "s3", "token", "role", "role-2", "secret", "wrapped", "jwt"):
        (tmp_path / name).write_text(f"{name} {CANARY}")
        (tmp_path / name).chmod(0o644 if name == "jwt" else 0o600)

    def write(ways: str) -> Path:
        path = tmp_path / "cell.toml"
        path.write_text(CELL.format(ways=ways))
        return path

    return write


def faults(path: Path) -> list[str]:
    """Return what `load` says is wrong with *path*, and check that no secret is quoted."""
    with pytest.raises(SettingsError) as caught:
        settings.load(path)
    assert CANARY not in str(caught.value)
    return caught.value.faults


@pytest.mark.parametrize(
    ("ways", "worker", "keeper"),
    [
        ('token_file = "token"', ["token_file"], []),
        (APPROLE, ["approle"], []),
        (POD, ["kubernetes"], []),
        (f"{APPROLE}\n{KEEPER}", ["approle"], ["keeper_approle"]),
        (KEEPER, [], ["keeper_approle"]),
        (f"keeper_{POD}", [], ["keeper_kubernetes"]),
        ('keeper_token_file = "token"', [], ["keeper_token_file"]),
    ],
)
def test_each_of_both_logs_in_by_one_way(
    write: Write, ways: str, worker: list[str], keeper: list[str]
) -> None:
    """The keeper's process is given the keeper's credentials, and need not have the cell's."""
    found = settings.load(write(ways)).services.vault

    assert found is not None
    assert (list(found.worker_ways), list(found.keeper_ways)) == (worker, keeper)
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("ways", "told"),
    [
        ("", "services.vault: names no way to log in (add token_file, approle or kubernetes)"),
        (
            f"{APPROLE}\n{POD}",
            "services.vault: the cell logs in by one way (keep one of approle, kubernetes)",
        ),
        (
            f'{KEEPER}\nkeeper_token_file = "token"',
            (
                "services.vault: the keeper logs in by one way "
                "(keep one of keeper_approle, keeper_token_file)"
            ),
        ),
        (
            'approle = { role_id_file = "role" }',
            "services.vault.approle: give one of secret_id_file and wrapped_secret_id_file",
        ),
        (
            APPROLE.replace(" }", ', wrapped_secret_id_file = "wrapped" }'),
            "services.vault.approle: give one of secret_id_file and wrapped_secret_id_file",
        ),
        (
            f'approle = {{ role_id_file = "role", secret_id = "{CANARY}" }}',
            (
                "services.vault.approle.secret_id: a secret is given as a file, never inline "
                "(use secret_id_file)"
            ),
        ),
        (
            'kubernetes = { role = "a/../b", jwt_file = "jwt" }',
            "services.vault.kubernetes.role: must be the name of a role",
        ),
    ],
)
def test_a_way_that_cannot_work_is_told(write: Write, ways: str, told: str) -> None:
    """A cell that starts and cannot open a key takes notes that it cannot answer."""
    assert faults(write(ways)) == [told]


@pytest.mark.parametrize(
    "ways",
    [
        'token_file = "token"\nkeeper_token_file = "token"',
        f"{APPROLE}\nkeeper_{APPROLE}",
        f"{POD}\nkeeper_{POD}",
    ],
)
def test_production_wants_two_identities(write: Write, ways: str) -> None:
    """What can read and destroy at once is what the two halves were made to prevent."""
    told = "services.vault: the cell and the keeper are two identities (give each its own)"
    assert faults(write(ways)) == [told]


def test_every_fault_is_told_at_once(write: Write) -> None:
    """Fix, start again, fix, start again: that is what a whole check is to spare."""
    ways = 'approle = { role_id_file = "gone" }\nkubernetes = { role = "cell", jwt_file = "gone" }'

    found = faults(write(ways))

    assert [told.partition(": ")[0] for told in found] == [
        "services.vault.approle.role_id_file",
        "services.vault.kubernetes.jwt_file",
    ]
