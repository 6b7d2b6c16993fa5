"""`python -m fastserve_runtime` is the command `fastserve-runtime`."""

import sys

from fastserve_runtime.starting import main

sys.exit(main())
