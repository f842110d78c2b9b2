"""`python -m edgellama` is the `edgellama` command."""

import sys

from edgellama.cli import main

sys.exit(main())
