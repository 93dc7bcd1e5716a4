"""Processes as a person at a terminal starts them, whatever started the tests."""

from __future__ import annotations


def with_default_signals(*command: str) -> list[str]:
    """Return a command whose process hears SIGINT, SIGTERM and SIGHUP.

    A shell without job control makes its background jobs ignore SIGINT, and ``nohup`` SIGHUP; their
    children, tests among them, pass that on.
    """
    return ['env', '--default-signal=INT,TERM,HUP', *command]
