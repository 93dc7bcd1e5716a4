"""Tells a gate's own commands, come back to it, from new ones."""

from __future__ import annotations

from collections import deque

from nav_monitor_ros.decision.gate import Velocity

WINDOW = 0.02  # seconds after a command in which the same one counts as its echo
MOST_KEPT = 1000  # commands; a faster loop than that is cut by the oldest of them


class CommandEcho:
    """Knows what was sent a moment ago.

    For commands that may be echoes, since who publishes them listens to the gate. An echo follows
    what was sent within the milliseconds that the loop takes; where it does not pass, the loop
    holds nothing any more. A source of its own that says the same more often than each ``WINDOW``
    is heard that often. Not thread-safe.
    """

    def __init__(self) -> None:
        """Nothing was sent."""
        self._sent: deque[tuple[float, Velocity]] = deque(maxlen=MOST_KEPT)

    def sent(self, velocity: Velocity, now: float) -> None:
        """Note what was sent, at a time in steady seconds."""
        self._sent.append((now, velocity))

    def is_echo(self, velocity: Velocity, now: float) -> bool:
        """Return whether this was sent within the last ``WINDOW``."""
        while self._sent and now - self._sent[0][0] > WINDOW:
            self._sent.popleft()
        return any(sent == velocity for _, sent in self._sent)
