"""A secret that is replaced while the cell runs."""

import os
from pathlib import Path

from support.stage import secret

from gateway import secretfile
from gateway.secretfile import Newest
from gateway.whatsapp.account import Account


def test_a_new_token_counts_from_the_next_call_on(tmp_path: Path) -> None:
    """Whoever mends an account at night should not have to restart the cell as well."""
    path = tmp_path / secret(tmp_path, "access", "old")
    newest = Newest(secretfile.read(path))
    account = Account(phone_number_id="1", token="old", newest=newest)
    assert account.headers["Authorization"] == "Bearer old"

    fresh = tmp_path / secret(tmp_path, "fresh", "brand-new")
    os.replace(fresh, path)  # noqa: PTH105 - as a secret is rotated

    assert account.headers["Authorization"] == "Bearer brand-new"


def test_a_token_that_is_half_way_through_being_replaced_is_the_old_one(tmp_path: Path) -> None:
    """An empty file, or one that is open to others, is no token."""
    path = tmp_path / secret(tmp_path, "access", "old")
    newest = Newest(secretfile.read(path))

    path.write_text("")
    assert newest() == "old"
    path.unlink()
    assert newest() == "old"
    secret(tmp_path, "access", "brand-new")
    assert newest() == "brand-new"
