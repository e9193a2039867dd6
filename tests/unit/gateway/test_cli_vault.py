"""``vocustody vault-policy``: the policy that an administrator writes is the one in the code."""

from pathlib import Path

import pytest
from support.settings import Configure

from gateway import cli
from vault.keyrings import policies
from vault.keyrings.policies import Who


@pytest.mark.parametrize("who", Who)
def test_the_policy_is_printed_without_settings(
    who: Who, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings name secrets, and those exist only after the policy does."""
    status = cli.main(["vault-policy", who, "--cell", "eu-1", "--mount", "transit-eu"])

    assert status == 0
    assert capsys.readouterr().out == policies.text(who, mount="transit-eu", cell="eu-1")


def test_the_settings_name_the_mount(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the cell will ask is what the policy has to allow."""
    table = '{ url = "http://127.0.0.1:9", token_file = "token", mount = "transit-eu" }'

    status = cli.main(
        ["vault-policy", "worker", "--config", str(configure(f"[services]\nvault = {table}"))]
    )

    assert status == 0
    assert 'path "transit-eu/decrypt/+"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "given", [["--cell", 'x" {}', "--mount", "transit"], ["--cell", "eu-1", "--mount", "../sys"]]
)
def test_a_name_cannot_write_a_rule_of_its_own(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed is piped into the server with an administrator's rights."""
    status = cli.main(["vault-policy", "worker", *given])

    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert "must match" in said.err


def test_a_local_keyring_has_no_policy(
    configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """There is nobody to give it to."""
    status = cli.main(["vault-policy", "keeper", "--config", str(configure())])

    assert status == 2
    assert "services.vault is not set" in capsys.readouterr().err
