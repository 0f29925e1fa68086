"""What a request through `llm_guard.llm.Session` raises when its call is over: errors of requests, and of this package.

They carry no request and no response, for these would hold a prompt.
"""

from __future__ import annotations

import requests

from llm_guard.errors import CallTimeout, Cancelled
from llm_guard.llm.exchange import Errors


class RequestTimeout(CallTimeout, requests.exceptions.Timeout):
    """The deadline of the call that made the request has come; `seconds` after the request began."""

    request = response = None


class RequestCancelled(Cancelled, requests.exceptions.ConnectionError):
    """The call that made the request was given up."""

    request = response = None


ERRORS = Errors(RequestTimeout, RequestCancelled)
