"""``vocustody`` whose loggers, those of every library included, say all they have: at DEBUG."""

import logging
import sys
from typing import Any

from gateway import cli, log


def main() -> int:
    """Run the command; what its own log settings leave out is said, too."""
    configure = log.configure

    def loud(**how: Any) -> None:
        configure(**how | {"level": logging.DEBUG})
        logging.getLogger().setLevel(logging.DEBUG)

    log.configure = loud
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
