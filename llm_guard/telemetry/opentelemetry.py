"""Spans and metrics for OpenTelemetry: `OpenTelemetry().watch(ask, model="gpt-4o-mini", provider="openai")`.

Each attempt is a span beneath the caller's current one, and each wait of a millisecond or more is one beside it. The
span of an attempt is the current one while the function runs, so that what an HTTP client's own instrumentation makes
stands beneath it; of a stream until its first item, as nobody knows in which context the others will be taken. Names
are those of the semantic conventions for generative AI where they have one, else they begin with "llm_guard.".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from llm_guard.errors import ConfigError
from llm_guard.events import Takers
from llm_guard.telemetry.exporter import Exporter
from llm_guard.telemetry.extras import bring

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from llm_guard.runtime.guarded import Guarded

#: What the scope of spans and metrics is called.
SCOPE = "llm_guard"
#: Attributes of both.
OPERATION = "gen_ai.operation.name"
MODEL = "gen_ai.request.model"
PROVIDER = "gen_ai.provider.name"
ERROR = "error.type"
FUNCTION, OUTCOME, POLICY = "llm_guard.function", "llm_guard.outcome", "llm_guard.policy"


class OpenTelemetry(Exporter):
    """Spans by `tracer_provider` and metrics by `meter_provider` (default: the global ones); False: none of these."""

    name = "opentelemetry"

    def __init__(self, tracer_provider: TracerProvider | bool | None = None,
                 meter_provider: MeterProvider | bool | None = None) -> None:
        super().__init__()
        bring("opentelemetry.trace", "opentelemetry")
        from llm_guard.telemetry.opentelemetry_metrics import Metrics
        from llm_guard.telemetry.opentelemetry_spans import Spans

        for parameter, provider, method in (("tracer_provider", tracer_provider, "get_tracer"),
                                            ("meter_provider", meter_provider, "get_meter")):
            if provider not in (None, False) and not callable(getattr(provider, method, None)):
                raise ConfigError(parameter, provider, f"a provider, which has {method}, None or False")
        self._described: dict[str, dict[str, str]] = {}
        self._default: dict[str, str] = {}
        self._takes: list[Any] = []
        if tracer_provider is not False:
            self._takes.append(Spans(tracer_provider, self.attributes_of))  # type: ignore[arg-type]  # just checked
        if meter_provider is not False:
            self._takes.append(Metrics(meter_provider, self.attributes_of,  # type: ignore[arg-type]  # as well
                                       self.functions, self.broke))

    def watch(self, *functions: Guarded[..., Any], operation: str | None = "chat", model: str | None = None,
              provider: str | None = None) -> Self:
        """Watches these, or all; what they are calls of: `operation` is "chat", "text_completion", "embeddings",
        "generate_content" or another (None: nothing of generative AI), `model` and `provider` as the conventions name
        them ("openai", "anthropic", "aws.bedrock"; None: not told)."""
        for parameter, value in (("operation", operation), ("model", model), ("provider", provider)):
            if value is not None and (not isinstance(value, str) or not value):
                raise ConfigError(parameter, value, "a text, or None")
        if operation is None and (model or provider):
            raise ConfigError("operation", operation, "given, where model or provider is")
        super().watch(*functions)
        given = {OPERATION: operation, MODEL: model, PROVIDER: provider}
        told = {name: value for name, value in given.items() if value is not None}
        if not functions:
            self._default = told
        for function in functions:
            self._described[function.label] = told
        return self

    def attributes_of(self, function: str) -> dict[str, str]:
        """What spans and metrics of that function say of it: not to be changed."""
        found = self._described.get(function, self._default)
        if FUNCTION not in found:
            found = self._described[function] = {**found, FUNCTION: function}
        return found

    def takers(self) -> Takers:
        found: dict[type[Any], list[Callable[..., object]]] = {}
        for takes in self._takes:
            for kind, taker in takes.takers().items():
                found.setdefault(kind, []).append(self.unhurt(taker))
        return {kind: takers[0] if len(takers) == 1 else _both(*takers) for kind, takers in found.items()}


def _both(first: Callable[..., object], second: Callable[..., object]) -> Callable[..., object]:
    def each(*facts: Any) -> None:
        first(*facts)
        second(*facts)

    return each
