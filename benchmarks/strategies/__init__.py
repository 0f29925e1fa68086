"""The known ways to call an LLM's API, each as a strategy that `llm_guard.testing.simulation.simulate` runs.

Each stands here twice: as people configure it, and "patient", with as many tries as `llm_guard.retry` makes (see
`tries`), so that what then differs is the law and not the number of tries. A file's docstring says which parts are the
library's. All waiting goes through `llm_guard.clock.current()`, all chance through its dice.
"""

from __future__ import annotations

from llm_guard.testing.simulation import Strategy
from strategies import (
    adaptive_concurrency,
    aimd,
    botocore_adaptive,
    cookbook,
    envoy,
    fixed,
    gradient2,
    plain,
    seed,
    sre,
)
from strategies.tries import five_tries, patient

__all__ = ["STRATEGIES", "TOLD"]

#: By name; the patient form of each after it.
STRATEGIES: dict[str, Strategy] = {
    "tenacity pool": plain.strategy(five_tries),
    "tenacity pool, patient": plain.strategy(patient),
    "seed": seed.strategy(),
    "seed, patient": seed.strategy(patient),
    "pyrate-limiter": fixed.strategy(five_tries),
    "pyrate-limiter, patient": fixed.strategy(patient),
    "botocore adaptive": botocore_adaptive.strategy(),
    "botocore adaptive, patient": botocore_adaptive.strategy(patient),
    "Gradient2": gradient2.strategy(five_tries),
    "Gradient2, patient": gradient2.strategy(patient),
    "AIMD": aimd.strategy(five_tries),
    "AIMD, patient": aimd.strategy(patient),
    "SRE throttling": sre.strategy(five_tries),
    "SRE throttling, patient": sre.strategy(patient),
    "Envoy gradient": envoy.strategy(five_tries),
    "Envoy gradient, patient": envoy.strategy(patient),
    "OpenAI cookbook": cookbook.strategy(),
    "OpenAI cookbook, patient": cookbook.strategy(patient),
    "adaptive-concurrency": adaptive_concurrency.strategy(five_tries),
    "adaptive-concurrency, patient": adaptive_concurrency.strategy(patient),
}
#: Those that are told what the server really bears.
TOLD: frozenset[str] = frozenset(name for name in STRATEGIES
                                 if name.startswith(("pyrate-limiter", "OpenAI cookbook")))
