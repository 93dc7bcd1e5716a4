"""The process of ``nav_monitor``: signal handlers are installed before anything is imported."""

from __future__ import annotations

import sys
from typing import NoReturn

from nav_monitor_ros import interrupt
from nav_monitor_ros.cli.standard_streams import open_closed_streams
from nav_monitor_ros.files.utf8_mode import require_utf8_mode


def main() -> NoReturn:
    """Run one command and exit with its status, which is 130 if it was interrupted."""
    open_closed_streams()
    require_utf8_mode()
    interrupt.handle_signals()
    from nav_monitor_ros.cli.main import main as run

    try:
        status = run()
    except SystemExit as ended:  # raised by argparse
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    interrupt.exit_process(status)


if __name__ == '__main__':
    main()
