"""Finding programs, and failing over a missing one."""

from __future__ import annotations

import os
import shutil

import pytest


def program(*names: str) -> str:
    """Return the path of the first of these programs that is installed.

    Where there is none, the test fails under CI, where everything must run, and is skipped elsewhere.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    message = f"none of {', '.join(names)} is installed: tests/servers/install.sh installs them on Debian"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
