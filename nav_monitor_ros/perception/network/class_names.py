"""Class names: validation, comparison, and files that list them one per line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError

LONGEST_NAME = 500  # characters
LARGEST_FILE = 1 << 26  # bytes
_BYTE_ORDER_MARK = '\ufeff'  # byte order mark that some editors write


def problem_of(name: str) -> str:
    """Return why a string cannot be a name in a bundle, '' if it can."""
    if len(name) > LONGEST_NAME:
        return f'({shown(name)}) has {len(name)} characters, more than {LONGEST_NAME}'
    if any('\udc80' <= character <= '\udcff' for character in name):
        return f'({shown(name)}) has bytes that are not UTF-8'
    odd = next((character for character in name if not character.isprintable()), '')
    if odd:
        what = unicodedata.name(odd, 'a control character')
        return f'({shown(name)}) has the character U+{ord(odd):04X}, {what}, which cannot be shown'
    return ''


def require_names(names: Iterable[str], what: str, remedy: str) -> None:
    """Check the names of a bundle in advance of hours of work.

    Args:
        names: Names to check.
        what: Kind of name, for the message.
        remedy: Advice for the message.

    Raises:
        NavMonitorError: A name has characters that cannot be shown, or is too long.
    """
    for name in names:
        problem = problem_of(name)
        if problem:
            raise NavMonitorError(f'{what} {problem}; {remedy}')


def shown(name: str) -> str:
    """Return a name in printable form for a message, on one line and shortened."""
    text = ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return text if len(text) <= 80 else f'{text[:80]}...'


def comparable(name: str) -> str:
    """Return the normalised form in which names are compared.

    Accented letters may be one character or two, as in folder names on macOS; surrounding spaces
    are ignored.
    """
    return unicodedata.normalize('NFC', name).strip()


def alike(name: str) -> str:
    """Return the form in which names are compared that a person may consider the same.

    Case, accents and word separators are ignored: ``Speed-limit 30`` is ``speed_limit_30``.
    Whatever distinguishes numbers is kept: a sign before one (``Steer -30``, but not a hyphen after
    a letter), a separator between two (``1.5`` is ``1_5``, not ``15``), and symbols (``> 3``).
    """
    folded = _folded(name)
    kept = []
    before = ''  # the last letter, digit or symbol
    for place, character in enumerate(folded):
        between = folded[place - 1] if place else ''
        after = folded[place + 1] if place + 1 < len(folded) else ''
        if _counts(character):
            if before.isdecimal() and character.isdecimal() and not _counts(between):
                kept.append('.')
            kept.append(character)
            before = character
        elif character == '-' and after.isdecimal() and not between.isalnum():
            kept.append('-')
            before = '-'
    return ''.join(kept)


def letters_and_digits(name: str) -> str:
    """Return the letters and digits of a name, which names of different classes may share."""
    return ''.join(character for character in _folded(name) if character.isalnum())


def _folded(name: str) -> str:
    """Return a name in lower case without accents, with one kind of minus sign and hyphen."""
    folded = unicodedata.normalize('NFKD', unicodedata.normalize('NFKD', name).casefold())
    dashes = (
        '-' if c == '\u2212' or unicodedata.category(c) == 'Pd' else c for c in folded
    )
    return ''.join(c for c in dashes if not '\u0300' <= c <= '\u036f')  # accents of letters


def _counts(character: str) -> bool:
    """Return whether a character is a letter, digit, mark or symbol rather than a separator."""
    return character.isalnum() or unicodedata.category(character)[0] in 'MS'


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the class names of a file, one per line, without empty lines.

    Raises:
        NavMonitorError: The file cannot be read, or a line cannot be a name; the message gives the
            line.
    """
    names = []
    for number, line in enumerate(_text(path).split('\n'), start=1):
        name = line.strip()
        if not name:
            continue
        problem = problem_of(name)
        if problem:
            raise NavMonitorError(f'class names {path}, line {number}: the name {problem}')
        names.append(name)
    if not names:
        raise NavMonitorError(f'class names {path}: the file has none')
    return tuple(names)


def read_listed(path: Path) -> tuple[str, ...]:
    """Return the names written by ``write_listed``.

    Raises:
        NavMonitorError: The file cannot be read.
    """
    return tuple(_text(path).removesuffix('\n').split('\n'))


def write_listed(path: Path, names: Sequence[str]) -> None:
    """Write valid names, one per line.

    Raises:
        OSError: The file cannot be written.
    """
    path.write_text('\n'.join(names) + '\n', encoding='utf-8')


def _text(path: Path) -> str:
    try:
        with path.open(encoding='utf-8') as stream:
            text = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise NavMonitorError(f'class names {path}: {error.strerror}') from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b'\n') + 1
        raise NavMonitorError(
            f'class names {path}, line {line}: byte 0x{error.object[error.start]:02x} is not '
            'UTF-8; save the file as UTF-8'
        ) from None
    if len(text) > LARGEST_FILE:
        raise NavMonitorError(f'class names {path}: the file is larger than {LARGEST_FILE} bytes')
    return text.removeprefix(_BYTE_ORDER_MARK)
