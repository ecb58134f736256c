"""The contract of the stores, over each of them."""

from __future__ import annotations

import pytest

from aiohttp_persistent_session import Backend, MemoryBackend
from aiohttp_persistent_session.testing import BackendContract


class TestMemoryBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()
