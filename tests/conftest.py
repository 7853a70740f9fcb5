"""What several tests share: one Ray for those that need it, object stores, and real data where it is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import stores

from lungct.cluster import Session, connect


@pytest.fixture(scope="module", params=stores.every_kind())
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    """An emulator of each kind of object store, with an empty bucket."""
    with stores.store(request.param, tmp_path_factory.mktemp("store")) as one:
        yield one


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Session]:
    """Ray in this process, for every test that asks for it."""
    with connect() as session:
        yield session
