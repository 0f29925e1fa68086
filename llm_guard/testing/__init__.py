"""Servers that start cold, for tests and demonstrations: one pure model of a server, run in virtual time or over HTTP.

- `llm_guard.testing.server`: the model itself, its named scenarios and what an all-knowing sender would reach on it.
- `llm_guard.testing.virtual_server`: a function to call, blocking on the clock in force.
- `llm_guard.testing.cold_server`: a real HTTP server on loopback; `python -m llm_guard.testing.cold_server`.
- `llm_guard.testing.simulation`: whole workloads against it in virtual time; `python -m llm_guard.testing.simulation`.
"""
