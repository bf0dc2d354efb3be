"""`python -m oubliette` is the `oubliette` command."""

from __future__ import annotations

import sys

from oubliette.cli import main

if __name__ == "__main__":
    sys.exit(main())
