"""Processes with the signal dispositions of an interactive shell, however the tests are run."""

from __future__ import annotations


def with_default_signals(*command: str) -> list[str]:
    """Return a command whose process does not ignore SIGINT, SIGTERM and SIGHUP.

    A shell without job control makes its background jobs ignore SIGINT, and ``nohup`` does the same
    with SIGHUP; their child processes, including tests, inherit this.
    """
    return ['env', '--default-signal=INT,TERM,HUP', *command]
