"""The one error class that this package raises on purpose."""


class NavMonitorError(Exception):
    """Something the user gave cannot be used.

    The text is written for the person at the terminal: it names the thing that is wrong, where it
    is, and what to do about it, in one line. The command line prints it and exits with status 2;
    the node publishes it and raises ``ood_alert``.
    """


def one_line(text: object, length: int = 200) -> str:
    """Return a text from a file or a library fit for a message: in one line, and not too long."""
    shown = ' '.join(str(text).split()) or type(text).__name__
    return shown if len(shown) <= length else shown[:length] + '...'
