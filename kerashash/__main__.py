"""The command line, as ``python -m kerashash``."""

import sys

from kerashash.cli import main

if __name__ == "__main__":
    sys.exit(main())
