"""``python -m gateway`` is the command ``vocustody``."""

import sys

from gateway.cli import main

sys.exit(main())
