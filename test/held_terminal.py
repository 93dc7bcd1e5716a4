"""A terminal that can be held, as a person holds it with Ctrl-S."""

from __future__ import annotations

import os
import pty
import termios
import threading


class HeldTerminal:
    """A pseudo-terminal whose output is kept as text; what writes to it while it is held blocks."""

    def __init__(self) -> None:
        self._master, self.descriptor = pty.openpty()
        self._said = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """Return everything that was written so far."""
        return self._said.decode(errors='replace')

    def hold(self) -> None:
        """Stop the output."""
        termios.tcflow(self.descriptor, termios.TCOOFF)

    def release(self) -> None:
        """Let the output go on."""
        termios.tcflow(self.descriptor, termios.TCOON)

    def close(self) -> None:
        """Release it and end."""
        self.release()
        os.close(self.descriptor)
        self._thread.join(5)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # nobody holds the other side any more
                return
            if not data:
                return
            self._said += data
