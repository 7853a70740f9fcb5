"""Fixtures that several test modules share: Ray, and emulators of object stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import stores

from lungct.cluster import Session, connect


@pytest.fixture(scope="module", params=stores.every_kind())
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    """Each kind of object store in turn, with an empty bucket."""
    with stores.store(request.param, tmp_path_factory.mktemp("store")) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Session]:
    """One Ray for all tests of this process that need it."""
    with connect() as session:
        yield session
