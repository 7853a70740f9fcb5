"""What several tests share: one Ray for those that need it, and real data where it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lungct.cluster import Session, connect

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Session]:
    """Ray in this process, for every test that asks for it."""
    with connect() as session:
        yield session
