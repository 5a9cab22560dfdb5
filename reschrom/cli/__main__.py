"""Run the command line as `python -m reschrom.cli`."""

import sys

from reschrom.cli.commands import main

sys.exit(main())
