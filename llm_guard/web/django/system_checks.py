"""What Django's system checks tell of: settings, the middleware, and views that would leave their transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.urls import URLPattern, URLResolver, get_resolver

from llm_guard.policies.timeout import Timeout
from llm_guard.runtime.stack import Stack
from llm_guard.web.django import MIDDLEWARE, config

#: What should stand below: what they do for a request, and all that they may call, is then under its deadline.
BELOW = ("django.contrib.sessions.middleware.SessionMiddleware",
         "django.contrib.auth.middleware.AuthenticationMiddleware")


def check_settings(app_configs: Sequence[AppConfig] | None, **more: Any) -> list[CheckMessage]:
    """Unknown settings and wrong values in LLM_GUARD."""
    return [Error(f"LLM_GUARD: {wrong}", id="llm_guard.E001") for wrong in config.read()[1]]


def check_middleware(app_configs: Sequence[AppConfig] | None, **more: Any) -> list[CheckMessage]:
    """The middleware stands in MIDDLEWARE once, and above what it should hold."""
    middleware = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in middleware:
        return [Error(f"{MIDDLEWARE!r} is not in MIDDLEWARE: no request has a deadline, and a refused call is a 500.",
                      hint="Put it high up, above SessionMiddleware.", id="llm_guard.E002")]
    if middleware.count(MIDDLEWARE) > 1:
        return [Error(f"{MIDDLEWARE!r} is in MIDDLEWARE more than once.", hint="Leave the first.", id="llm_guard.E003")]
    above = [each for each in middleware[:middleware.index(MIDDLEWARE)] if each in BELOW]
    if above:
        return [Warning(f"{MIDDLEWARE!r} stands below {above[0]!r} in MIDDLEWARE, which has no deadline there.",
                        hint="Put it high up, above SessionMiddleware.", id="llm_guard.W001")]
    return []


def check_views(app_configs: Sequence[AppConfig] | None, **more: Any) -> list[CheckMessage]:
    """No view whose transaction is its request's runs on a thread of its own."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    atomic = {alias for alias, database in settings.DATABASES.items() if database.get("ATOMIC_REQUESTS")}
    found: list[CheckMessage] = []
    for pattern in _patterns(get_resolver()) if atomic else ():
        view = pattern.callback
        if atomic - getattr(view, "_non_atomic_requests", set()) and any(map(_has_timeout, _functions(view))):
            found.append(Error(
                f"The view {pattern.lookup_str} is under @timeout, which runs it on another thread, outside of the "
                "transaction that ATOMIC_REQUESTS begins for it.",
                hint="Use @deadline, which needs no thread, put @timeout on a function that the view calls and that "
                     "does without the database, or mark the view with @transaction.non_atomic_requests.",
                id="llm_guard.E004"))
    return found


def _patterns(resolver: URLResolver) -> Iterator[URLPattern]:
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            yield from _patterns(each)
        elif isinstance(each, URLPattern):
            yield each


def _functions(view: Any) -> Iterator[Any]:
    """The view and all that it wraps; of a class, `dispatch` and what answers each method."""
    of_class = getattr(view, "view_class", None)
    names = ["dispatch", *getattr(of_class, "http_method_names", ())]
    for function in (view, *(getattr(of_class, name, None) for name in names)):
        while function is not None:
            yield function
            function = getattr(function, "__wrapped__", None)


def _has_timeout(function: Any) -> bool:
    stack = getattr(function, "stack", None)
    return isinstance(stack, Stack) and any(isinstance(policy, Timeout) for policy in stack.policies)
