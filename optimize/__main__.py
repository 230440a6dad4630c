"""``python -m optimize`` is the command ``optimize``."""

import sys

from optimize.cli import main

sys.exit(main())
