"""A raw server, and a TLS one, for the tests of connections that are cut."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trustme
from raw_server import RawServer, certificates


class Tls(NamedTuple):
    """A server's TLS context, its authority's certificate as a file, and the authority itself."""

    context: ssl.SSLContext
    path: str
    authority: trustme.CA


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(*certificates(tmp_path_factory.mktemp("tls")))


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
