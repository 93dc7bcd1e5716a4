"""Tells a gate's own commands, come back to it, from new ones."""

from __future__ import annotations

from collections import deque

from nav_monitor_ros.decision.gate import Velocity

MOST_KEPT = 1000  # commands; a faster loop than that is cut by the oldest of them


class CommandEcho:
    """Knows what was sent a moment ago.

    For commands of which it is known that they may be echoes, since who publishes them listens to
    the gate. A source of its own that repeats one command is then heard once in a ``window``,
    which is enough for a base's own timeout; an echo dies out, because it always follows what was
    sent. Not thread-safe.
    """

    def __init__(self) -> None:
        """Nothing was sent."""
        self._sent: deque[tuple[float, Velocity]] = deque(maxlen=MOST_KEPT)

    def sent(self, velocity: Velocity, now: float) -> None:
        """Note what was sent, at a time in steady seconds."""
        self._sent.append((now, velocity))

    def is_echo(self, velocity: Velocity, now: float, window: float) -> bool:
        """Return whether this was sent within the last ``window`` seconds."""
        while self._sent and now - self._sent[0][0] > window:
            self._sent.popleft()
        return any(sent == velocity for _, sent in self._sent)
