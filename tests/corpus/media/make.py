"""
Refresh the media corpus after a change of `support.oggs`: ``python tests/corpus/media/make.py``.

Rewrites sizes, digests and the small files. Names, rows and codes in the manifest are written by
hand: what a note is refused with is a decision and not an observation.
"""

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
MOST_KEPT_BYTES = 2048  # larger ones are made when a test needs them


def main() -> None:
    """Write the manifest and the files it names."""
    from support import oggs  # noqa: PLC0415 - needs the path set below

    path = HERE / "manifest.json"
    manifest = json.loads(path.read_text())
    for bad in manifest["bad"]:
        content = oggs.RECIPES[bad["recipe"]]()
        bad |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if len(content) <= MOST_KEPT_BYTES:
            bad["file"] = f"bad/{bad['recipe']}.bin"
            (HERE / bad["file"]).write_bytes(content)
    path.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]
    main()
