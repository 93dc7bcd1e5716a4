"""The error class that this package raises on purpose, and functions for printable text."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable

# Sequences that terminals interpret: colours, cursor movements, titles (ECMA-48, xterm).
_ESCAPES = re.compile(
    r'(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]'
    r'|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?'
    r'|\x1b[ -/]*[0-~]?'
)
_BREAKS = re.compile(r' *[^\S ]\s*')  # white space with characters other than spaces
_JOINERS = '\u200c\u200d'  # not printable alone, but required by some scripts and by emoji


class NavMonitorError(Exception):
    """An input from the user cannot be used.

    The text is written for the user at the terminal: it states in one line what is wrong, where,
    and how to fix it. The command line prints it and exits with status 2; the node publishes it and
    raises ``ood_alert``.
    """

    def __str__(self) -> str:
        """Return the text in one line, even if names or library messages in it have several."""
        return printable(super().__str__())


def printable(text: object) -> str:
    """Return a text in one line and without sequences that a terminal would interpret.

    Escape sequences are removed, line breaks become spaces, and other unprintable characters are
    escaped as in Python, including bytes of a file name that are not valid text.
    """
    shown = _BREAKS.sub(' ', _ESCAPES.sub('', str(text))).strip()
    if shown.isprintable():
        return shown
    return ''.join(
        one if one.isprintable() or one in _JOINERS
        else one.encode('unicode-escape', 'surrogatepass').decode('ascii')
        for one in shown
    )


def one_line(text: object, length: int = 200) -> str:
    """Return a text from a file or a library as one printable line of limited length."""
    shown = ' '.join(printable(text).split()) or type(text).__name__
    return shown if len(shown) <= length else shown[:length] + '...'


def short_repr(value: object) -> str:
    """Return the first 80 characters of the ``repr`` of a user's value."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:80]}...'


def describe_import_error(error: ImportError) -> str:
    """Return in one line what is not installed, and how to install it."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition('.')[0]
        return (
            f'the Python package {package} is not installed: install it for {sys.executable}, for '
            'example with pip; README.md lists what this package needs'
        )
    return f'{one_line(error, 500)}: check the installation of this Python package'


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suffix for a message about an unknown name, such as ``; did you mean knn?``.

    The comparison ignores case and treats hyphens, underscores and dots alike. The suffix is empty
    if no known name is similar.
    """
    folded = {_folded(other): other for other in known}
    near = difflib.get_close_matches(_folded(name), folded, 1)
    return f'; did you mean {folded[near[0]]}?' if near else ''


def _folded(name: str) -> str:
    return name.lower().replace('-', '_').replace('.', '_')
