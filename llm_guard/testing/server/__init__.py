"""A server that starts cold, as a pure state machine, with its named scenarios and its yardstick."""

from llm_guard.testing.server.best import best_answers, best_time
from llm_guard.testing.server.limits import Left
from llm_guard.testing.server.model import REFUSAL_SECONDS, Finished, Refusal, ServerModel, Started
from llm_guard.testing.server.random_scenario import random_scenario
from llm_guard.testing.server.scenarios import SCENARIOS, scenario, server_random
from llm_guard.testing.server.settings import Scenario
from llm_guard.testing.server.stats import Reason, Stats
from llm_guard.testing.server.traffic import ramp_arrivals, spike_arrivals

__all__ = [
    "REFUSAL_SECONDS",
    "SCENARIOS",
    "Finished",
    "Left",
    "Reason",
    "Refusal",
    "Scenario",
    "ServerModel",
    "Started",
    "Stats",
    "best_answers",
    "best_time",
    "ramp_arrivals",
    "random_scenario",
    "scenario",
    "server_random",
    "spike_arrivals",
]
