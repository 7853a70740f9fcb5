"""Fixtures that several test modules share: an emulator of each object store, and one Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from support import stores

from lungct.cluster import Session, connect

# How long an example takes depends on what else the machine does.
settings.register_profile("lungct", deadline=None)
settings.load_profile("lungct")


@pytest.fixture(scope="module", params=stores.every_kind())
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    """An emulator of each kind of object store, with an empty bucket."""
    with stores.store(request.param, tmp_path_factory.mktemp("store")) as one:
        yield one


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Session]:
    """One Ray in this process, for every test that uses it."""
    with connect() as session:
        yield session
