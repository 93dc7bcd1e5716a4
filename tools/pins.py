"""Write requirements/constraints.txt: package versions of the current environment (`make pins`).

A package that no longer supports the project's oldest Python gets a marker; on that Python, pip
installs the newest release that still supports it, which no longer changes.
"""

from __future__ import annotations

from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PYTHONS = ('3.10', '3.11', '3.12', '3.13')
CONSTRAINTS = Path(__file__).parents[1] / 'requirements' / 'constraints.txt'
HEADER = """\
# The one place of versions: everything that requirements/*.txt brings in, as last tested together.
# To refresh: delete the lines to renew, run `make setup` and `make test`, and then `make pins`,
# which writes this file from .venv.
#
# Held on purpose:
#   torch 2.12.1 with torchvision 0.27.1: they must match; a CPU-only torch of another version does
#     not load the torchvision on the index ("operator torchvision::nms does not exist").
#   mujoco < 4: 4.0.0 on the index is an empty package.
#   numpy < 2.3 and opencv-python-headless < 5: cv-bridge 1.13 calls ndarray.tostring and knows
#     OpenCV 4's numbers of matrix types.
#   cmake < 4: the CMake files of ROS 2 Kilted are written for CMake 3.
#   setuptools < 80: the last that installs ament_python packages as colcon asks.
"""


def main() -> None:
    """Write the constraints file from the running interpreter's packages."""
    lines = sorted({pin(wheel) for wheel in distributions() if is_pinned(wheel)})
    CONSTRAINTS.write_text(HEADER + '\n'.join(lines) + '\n', encoding='utf-8')


def is_pinned(distribution: Distribution) -> bool:
    """Return whether an installed package gets a line.

    Args:
        distribution: The package, as importlib.metadata reports it.

    Returns:
        True for packages that pip installed from a wheel, except pip itself. ROS packages inside
        another package's wheel, and packages that the set-up builds, have no WHEEL file.
    """
    return distribution.read_text('WHEEL') is not None and distribution.name != 'pip'


def pin(distribution: Distribution) -> str:
    """Return the constraint line of one installed package.

    Args:
        distribution: The package, as importlib.metadata reports it.

    Returns:
        `name==version` without a local part, with a marker if an older Python lacks it.
    """
    line = f'{canonicalize_name(distribution.name)}=={Version(distribution.version).public}'
    supported = SpecifierSet(distribution.metadata['Requires-Python'] or '')
    # Each Python is represented by a late patch release, so that '>=3.10.1' accepts 3.10.
    pythons = [python for python in PYTHONS if f'{python}.20' in supported]
    if pythons and pythons[0] != PYTHONS[0]:
        line += f"; python_version >= '{pythons[0]}'"
    return line


if __name__ == '__main__':
    main()
