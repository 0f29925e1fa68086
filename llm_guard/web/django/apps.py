"""The app for INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.db.backends.signals import connection_created

from llm_guard.state import workers
from llm_guard.web.django import connections, system_checks


class GuardConfig(AppConfig):
    """Has Django's system checks look at what llm_guard needs, and keeps the connections of workers right."""

    name = "llm_guard.web.django"
    label = "llm_guard"
    verbose_name = "llm_guard"

    def ready(self) -> None:
        checks.register(system_checks.check_settings)
        checks.register(system_checks.check_middleware)
        checks.register(system_checks.check_views, checks.Tags.urls)
        workers.around_each_job(connections.of_a_worker)
        connection_created.connect(connections.refuse_outside_of_a_transaction, dispatch_uid="llm_guard")
