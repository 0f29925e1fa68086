"""The status page, live, over five guarded functions that call servers which start cold.

    python examples/status_page.py          then open the address that it prints, and sign in with the token beside it

Their servers are on loopback: one loads and then ramps up, one loads for a quarter of an hour, one limits the account.
One function fails and opens its circuit, and one has been paused.
"""

from __future__ import annotations

import argparse
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from llm_guard import GuardError, bounded, breaker, ramp_up, retry, timeout
from llm_guard.llm import huggingface
from llm_guard.testing.cold_server import cold_server_process
from llm_guard.web.status import Site, mounted


def guarded(urls: list[str]) -> list[tuple[Callable[[str], str], int]]:
    """The functions, and how many threads call each."""
    summaries, chats, translations, slow = (huggingface("my/model", url=url) for url in urls)
    nightly_pace = ramp_up(ceiling=5)

    @ramp_up
    @bounded(32)
    @retry
    @timeout(20)
    def summarize(prompt: str) -> str:
        return summaries(prompt)

    @ramp_up
    @bounded(16)
    @retry
    def chat(prompt: str) -> str:
        return chats(prompt)

    @breaker(window=20, min_calls=10, open_for=15)
    @timeout(10)
    def translate(prompt: str) -> str:
        if secrets.randbelow(10) < 7:
            raise ConnectionError("the translator is not well today")
        return translations(prompt)

    @nightly_pace
    @retry
    def nightly(prompt: str) -> str:
        return chats(prompt)

    nightly_pace.pause(3600)

    @ramp_up
    @bounded(8)
    @retry(max_refusal_wait=3600)
    def archive(prompt: str) -> str:
        return slow(prompt)

    return [(summarize, 24), (chat, 12), (translate, 2), (nightly, 3), (archive, 8)]


def call_for_ever(function: Callable[[str], str]) -> None:
    while True:
        try:
            function("What is 2 squared?")
        except (GuardError, ConnectionError):
            time.sleep(1)


def nothing_here(environ: object, start_response: Callable[..., object]) -> list[bytes]:
    start_response("302 Found", [("Location", "/guard/")])
    return [b""]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing: the page asks every two seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The status page over five guarded functions.")
    parser.add_argument("--port", type=int, default=8000, help="on loopback (default: 8000; 0: any that is free)")
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster the servers are (default: 1)")
    parser.add_argument("--seconds", type=float, default=None, help="ends after so many (default: with Ctrl-C)")
    chosen = parser.parse_args()
    token = secrets.token_urlsafe()
    with ExitStack() as servers:
        urls = [servers.enter_context(cold_server_process(name, speed=chosen.speed * by))
                for name, by in (("A", 1), ("C", 1), ("E", 1), ("A90", 0.1))]
        site = Site(token)
        for function, threads in guarded(urls):
            for _ in range(threads):
                threading.Thread(target=call_for_ever, args=(function,), daemon=True).start()
        with make_server("127.0.0.1", chosen.port, mounted(nothing_here, site), Server, Quiet) as server:
            print(f"http://127.0.0.1:{server.server_port}/guard/  token: {token}", flush=True)
            if chosen.seconds is not None:
                threading.Timer(chosen.seconds, server.shutdown).start()
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                pass


if __name__ == "__main__":
    main()
