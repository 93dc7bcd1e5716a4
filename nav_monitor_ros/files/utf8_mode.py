"""UTF-8 for names of files, classes and topics, whatever the locale."""

from __future__ import annotations

import os
import sys


def require_utf8_mode() -> None:
    """Restart this process in Python's UTF-8 mode if it uses another encoding for names.

    With a locale of another encoding Python cannot name a file that a parameter or a description
    names, and makes no text of the name of a folder. Standard output keeps the terminal's encoding.
    To be called before anything is opened; the process id stays.
    """
    if sys.getfilesystemencoding() == 'utf-8' or sys.flags.utf8_mode or not sys.executable:
        return
    own = getattr(sys.stdout, 'encoding', None) or 'ascii'
    environment = {**os.environ, 'PYTHONUTF8': '1'}
    environment.setdefault('PYTHONIOENCODING', f'{own}:backslashreplace')
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
