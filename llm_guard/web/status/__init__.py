"""The status page: how each guarded function of the process stands, live, with pause and resume.

    site = Site(token=os.environ["STATUS_TOKEN"])

is a WSGI application; `llm_guard.web.status.flask` and `.django` mount it in theirs.
"""

from __future__ import annotations

from llm_guard.web.status.message import Request, Response
from llm_guard.web.status.site import Site
from llm_guard.web.status.wsgi import mounted

__all__ = ["Request", "Response", "Site", "mounted"]
