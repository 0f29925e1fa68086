"""What the guards do, for those who watch from outside: Prometheus, StatsD, OpenTelemetry, the log; and the way back,
what those measure steers a pace (`steer`).

Each is a file and an extra of its own, made of events (`llm_guard.events`) and of what the policies show of themselves.
No call waits for any of them, none can fail a call, and no payload is in any of them.
"""
