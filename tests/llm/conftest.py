"""A raw server, and a TLS one, for the tests of connections that are cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from raw_server import RawServer, Tls, certificates


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server() -> Iterator[RawServer]:
    served = RawServer()
    yield served
    served.close()


@pytest.fixture
def secure_server(tls: Tls) -> Iterator[RawServer]:
    served = RawServer(tls.context)
    yield served
    served.close()
