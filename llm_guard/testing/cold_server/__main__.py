"""`python -m llm_guard.testing.cold_server`: prints the URL, then serves until SIGINT or SIGTERM.

With `--until-eof` it ends too when its standard input does: with the process that holds the other end.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from _thread import interrupt_main

from llm_guard.errors import ConfigError
from llm_guard.testing.cold_server import ColdServer
from llm_guard.testing.cold_server.dialects import APIS
from llm_guard.testing.server import SCENARIOS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llm_guard.testing.cold_server",
                                     description="An HTTP server that behaves as a model that starts cold.")
    parser.add_argument("--scenario", default="A", metavar="NAME",
                        help=f"{', '.join(SCENARIOS)}, or random-<seed> (default: A)")
    parser.add_argument("--speed", type=float, default=1.0, help="divides all times and hints (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="fixes all chance (default: 0)")
    parser.add_argument("--noise", type=float,
                        help="share of calls that end in a 500, below 1 (default: the scenario's)")
    parser.add_argument("--broken", type=float, default=0.0, help="share of answers with cut-off JSON (default: 0)")
    parser.add_argument("--one-shape", action="store_true", help="the text always at [0].generated_text")
    parser.add_argument("--api", choices=APIS, help="the only API spoken (default: all, each at its own paths)")
    parser.add_argument("--cancel", action="store_true", help="drop a call whose client is gone")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default: 0)")
    parser.add_argument("--until-eof", action="store_true", help="end too when the standard input ends")
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        server = ColdServer(given.scenario, speed=given.speed, seed=given.seed, noise=given.noise, broken=given.broken,
                            mixed_shapes=not given.one_shape, api=given.api, cancels=given.cancel, host=given.host,
                            port=given.port)
    except (ConfigError, OSError) as error:
        parser.error(str(error))
    # Said outright: a shell starts its background jobs with SIGINT ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    if given.until_eof:
        threading.Thread(target=_interrupt_at_eof, daemon=True).start()
    try:
        print(server.url, flush=True)
        server.serve()
    except KeyboardInterrupt:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.SIG_IGN)  # it ends already
    finally:
        server.close()


def _interrupt_at_eof() -> None:
    while os.read(sys.stdin.fileno(), 1 << 12):
        pass
    interrupt_main()


if __name__ == "__main__":
    main()
