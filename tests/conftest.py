"""What holds for all tests: that their processes hear a Ctrl-C, and how many examples Hypothesis tries.

They are 300 a test, or 10,000 in the slow tier (`make slow`; EXAMPLES names another number). The profile is "core", or
what HYPOTHESIS_PROFILE names, or what `--hypothesis-profile` names, which wins. A test that sets `max_examples` itself
keeps its own number: leave it out of tests marked `fuzz`.
"""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

#: None has a deadline: how long an example takes says more of the machine's other work than of the code.
settings.register_profile("core", max_examples=300, deadline=None)
settings.register_profile("slow", max_examples=int(os.environ.get("EXAMPLES", "10000")), deadline=None,
                          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "core"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; what is ignored is so in children too
    signal.signal(signal.SIGINT, signal.default_int_handler)
