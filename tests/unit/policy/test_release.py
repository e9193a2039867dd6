"""What is enforced, and what ever was, is on disk; and who is killed leaves old or new."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from support.publishing import Publisher, two_laws

from policy import archive
from policy.archive import Packed
from policy.errors import BundleError
from policy.release import Releases

OLD, NEW = two_laws()


def packed(number: int, issued: int) -> Packed:
    """Return the old (0) or the new (1) law, unsigned."""
    return archive.unpack(archive.pack((OLD, NEW)[number], issued=issued))


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """Return an empty shelf."""
    return Releases(tmp_path / "bundles")


def test_what_is_kept_can_be_replayed(releases: Releases) -> None:
    """A decision names its revision for years."""
    releases.keep(packed(0, 1))

    assert releases.bundle(OLD.revision).revision == OLD.revision
    with pytest.raises(BundleError, match="not kept here"):
        releases.bundle(NEW.revision)


@pytest.mark.parametrize("name", ["", "../secret", "0" * 63, "G" * 64])
def test_a_revision_names_no_other_file(releases: Releases, name: str) -> None:
    """It comes from a row or a command line."""
    with pytest.raises(BundleError, match="64 hex digits"):
        releases.bundle(name)


def test_a_kept_release_that_changed_is_refused(releases: Releases, tmp_path: Path) -> None:
    """A file under a revision's name is that revision or nothing."""
    archive.write(NEW, tmp_path / "bundles" / f"{OLD.revision}.tar.gz")

    with pytest.raises(BundleError, match="holds another release"):
        releases.bundle(OLD.revision)


def test_a_kept_release_is_verified_again(
    releases: Releases, publisher: Publisher, stranger: Publisher
) -> None:
    """A key that was taken out of the settings enforces nothing any more, not even from disk."""
    releases.keep(archive.unpack(publisher.publish(OLD)))

    assert releases.load(OLD.revision, keys=publisher.keys)
    with pytest.raises(BundleError, match="none of the verification keys"):
        releases.load(OLD.revision, keys=stranger.keys)


def test_the_newest_stays_the_newest(releases: Releases) -> None:
    """After a rollback an old publication is still an old one."""
    assert releases.state is None
    releases.activate(packed(0, 5), at=10)
    releases.activate(packed(1, 6), at=20)
    state = releases.activate(packed(0, 5), at=30)

    assert releases.state == state
    assert (state.revision, state.previous) == (OLD.revision, NEW.revision)
    assert state.newest == (6, NEW.revision)
    assert state.confirmed == 30


def test_the_same_again_keeps_what_was_before(releases: Releases) -> None:
    """Else a restart would forget what to roll back to."""
    releases.activate(packed(0, 5), at=10)
    releases.activate(packed(1, 6), at=20)

    assert releases.activate(packed(1, 6), at=30).previous == OLD.revision


def test_a_confirmation_is_kept(releases: Releases) -> None:
    """A restart must not make an old bundle young."""
    state = releases.activate(packed(0, 5), at=10)

    releases.confirm(state, at=99)

    assert releases.state == replace(state, confirmed=99)


def test_a_pin_is_of_something_kept(releases: Releases) -> None:
    """Rolling back to what is not there would leave nothing to enforce."""
    with pytest.raises(BundleError, match="not kept here"):
        releases.pin(OLD.revision)
    releases.keep(packed(0, 1))
    releases.pin(OLD.revision)

    assert releases.pinned == OLD.revision
    releases.unpin()
    releases.unpin()
    assert releases.pinned is None


def test_a_beginning_is_enough(releases: Releases) -> None:
    """Nobody types 64 digits in an incident; but it must name one."""
    releases.keep(packed(0, 1))
    releases.keep(packed(1, 2))

    assert releases.find(OLD.revision[:12]) == OLD.revision
    for start in ("", "zz"):
        with pytest.raises(BundleError, match=r"[02] kept releases begin with"):
            releases.find(start)


def test_a_refusal_is_remembered_until_it_is_over(releases: Releases) -> None:
    """Whoever asks for the status sees why nothing new came."""
    releases.refuse("unsigned", at=7)

    assert releases.refusal is not None
    assert (releases.refusal.at, releases.refusal.fault) == (7, "unsigned")
    releases.forgive()
    assert releases.refusal is None


@pytest.mark.parametrize("name", ["active.json", "pin.json", "refused.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"revision": 1}', '{"revision": "x"}', "\xff"])
def test_a_record_of_another_shape_is_an_error(
    releases: Releases, tmp_path: Path, name: str, text: str
) -> None:
    """Half a record is no record: nothing is guessed."""
    (tmp_path / "bundles" / name).write_bytes(text.encode("latin-1"))

    with pytest.raises(BundleError, match=name):
        getattr(releases, {"a": "state", "p": "pinned", "r": "refusal"}[name[0]])


WRITER = """
    import sys
    from pathlib import Path
    from policy import archive
    from policy.release import Releases

    releases = Releases(Path(sys.argv[1]))
    laws = [archive.unpack(Path(name).read_bytes()) for name in sys.argv[2:]]
    print("ready", flush=True)
    while True:
        for law in laws:
            releases.keep(law)
            releases.activate(law, at=1)
"""


def test_p10_who_is_killed_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """Killed -9 at any moment: the state names a release that is there, whole."""
    raw = [archive.pack(law, issued=1) for law in (OLD, NEW)]
    files = [tmp_path / f"{number}.tar.gz" for number in range(2)]
    for file, content in zip(files, raw, strict=True):
        file.write_bytes(content)
    shelf = tmp_path / "bundles"
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    for pause in (0.0, 0.011, 0.023, 0.037, 0.052):
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(shelf), *map(str, files)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=path) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            signal.sigtimedwait([], pause)
            writer.kill()
        releases = Releases(shelf)
        if (state := releases.state) is not None:
            assert releases.bundle(state.revision).revision in {OLD.revision, NEW.revision}
    assert releases.state is not None
