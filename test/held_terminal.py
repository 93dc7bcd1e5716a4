"""Terminal or pipe that a test can block, as Ctrl-S blocks a terminal."""

import fcntl
import os
import termios

import pytest


class Terminal:
    """Terminal or pipe that can be held, so that writing to it blocks indefinitely."""

    def __init__(self, kind):
        self.kind = kind
        self.reader, self.writer = os.openpty() if kind == 'terminal' else os.pipe()
        self.text = b''
        os.set_blocking(self.reader, False)

    @property
    def held(self):
        """What is wrong while it is held, in words."""
        return 'terminal is blocked (Ctrl-S)' if self.kind == 'terminal' else 'output pipe is full'

    def hold(self):
        """Block the terminal as Ctrl-S does, or fill the pipe."""
        if self.kind == 'terminal':
            termios.tcflow(self.writer, termios.TCOOFF)
            return
        flags = fcntl.fcntl(self.writer, fcntl.F_GETFL)
        os.set_blocking(self.writer, False)
        try:
            while True:
                os.write(self.writer, b'x' * 512)
        except BlockingIOError:
            pass
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags)

    def release(self):
        if self.kind == 'terminal':
            termios.tcflow(self.writer, termios.TCOON)
        self.read()

    def read(self):
        try:
            while data := os.read(self.reader, 1 << 16):
                self.text += data
        except (BlockingIOError, OSError):
            pass
        return self.text.decode(errors='replace')

    def close(self):
        for descriptor in (self.reader, self.writer):
            os.close(descriptor)


@pytest.fixture(params=['terminal', 'pipe'])
def terminal(request):
    terminal = Terminal(request.param)
    yield terminal
    terminal.close()
