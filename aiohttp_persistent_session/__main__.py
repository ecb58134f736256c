"""``python -m aiohttp_persistent_session``: see :mod:`.cli.main`."""

import sys

from .cli.main import main

sys.exit(main())
