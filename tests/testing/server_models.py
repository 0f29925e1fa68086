"""Models of a server, driven by hand."""

from __future__ import annotations

from random import Random

from llm_guard.testing.server import Finished, Scenario, ServerModel


def model_of(scenario: Scenario, seed: int = 0) -> ServerModel:
    return ServerModel(scenario, Random(seed))


def drain(model: ServerModel) -> list[Finished]:
    """All ends of the calls that are inside, in order."""
    ends = []
    while (at := model.next_event()) is not None:
        ends += model.advance(at)
    return ends
