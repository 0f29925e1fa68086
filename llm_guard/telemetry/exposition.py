"""All that the Prometheus client of this process knows, as text for a scrape."""

from __future__ import annotations

import os


def exposition(accept: str = "") -> tuple[bytes, str]:
    """The text and its Content-Type, in the format that the scraper's Accept header asks for.

    Where PROMETHEUS_MULTIPROC_DIR is set, of all processes that write there, as prometheus_client has it; else of this
    one. ModuleNotFoundError where prometheus_client is missing.
    """
    try:
        from prometheus_client import REGISTRY, CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("metrics need prometheus_client: "
                                  "pip install 'llm-guard-flow[prometheus]'") from missing
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ:
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
    encode, kind = choose_encoder(accept)
    return encode(registry), kind
