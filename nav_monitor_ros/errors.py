"""The one error class that this package raises on purpose, and text that is fit to be printed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# What terminals act upon: colours, cursor movements, titles (ECMA-48, xterm).
_ESCAPES = re.compile(
    r'(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]'
    r'|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?'
    r'|\x1b[ -/]*[0-~]?'
)
_BREAKS = re.compile(r' *[^\S ]\s*')  # white space that is more than spaces
_JOINERS = '\u200c\u200d'  # not printable by themselves; scripts and emoji need them


class NavMonitorError(Exception):
    """Something the user gave cannot be used.

    The text is written for the person at the terminal: it names the thing that is wrong, where it
    is, and what to do about it, in one line. The command line prints it and exits with status 2;
    the node publishes it and raises ``ood_alert``.
    """

    def __str__(self) -> str:
        """Return the text in one line, whatever names and libraries put into it."""
        return printable(super().__str__())


def printable(text: object) -> str:
    """Return a text in one line and without what a terminal would act upon.

    Escape sequences go, line breaks become spaces, and other characters that cannot be seen are
    spelt out as in Python, bytes of a file name that are no text among them.
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
    """Return a text from a file or a library fit for a message: in one line, and not too long."""
    shown = ' '.join(printable(text).split()) or type(text).__name__
    return shown if len(shown) <= length else shown[:length] + '...'


def short_repr(value: object) -> str:
    """Return the ``repr`` of a value that a user gave, at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:80]}...'


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return what follows a message about an unknown name, such as ``; did you mean knn?``.

    Capitals, hyphens, underscores and dots do not count. Empty where no known name is similar.
    """
    folded = {_folded(other): other for other in known}
    near = difflib.get_close_matches(_folded(name), folded, 1)
    return f'; did you mean {folded[near[0]]}?' if near else ''


def _folded(name: str) -> str:
    return name.lower().replace('-', '_').replace('.', '_')
