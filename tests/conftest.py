"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of tokens and measurements are the tests' own, also in the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
