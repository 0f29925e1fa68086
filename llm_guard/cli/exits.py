"""How the command ends: its exit codes, and the error that ends it with one of them."""

from __future__ import annotations

from enum import IntEnum

import click


class Exit(IntEnum):
    """The status of the process."""

    ANSWERED = 0  # every item has an answer
    FAILED_ITEMS = 1  # the run came to its end, and some items have none
    USAGE = 2  # click's own: an option that cannot work; nothing was sent
    STOPPED = 3  # ended early: quota, too many failures, no server, a server that refuses every request
    INPUT = 4  # the input cannot be used; nothing was sent
    FILES = 5  # the output or the journal cannot be written, or is another run's
    INTERRUPTED = 130  # Ctrl-C, as shells count it
    TERMINATED = 143  # SIGTERM


class Problem(click.ClickException):
    """Ends the command with a message and one of its exit codes."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = int(code)  # which click's class has for all


def reason(error: OSError) -> str:
    """What the system said, without the name of the file, which stands in the message already."""
    return error.strerror or type(error).__name__
