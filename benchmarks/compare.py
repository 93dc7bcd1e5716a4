"""Compare two results of `nav_monitor benchmark ... --json` to detect regressions.

    python benchmarks/compare.py before.json after.json [--tolerance 0.15]

Compares the medians, and the figures for which lower or higher is better. Times of two machines, or
of a busy and an idle one, are not comparable; `--relative` compares the ratios to each run's own
reference instead. Exits with status 1 if a number is worse by more than the tolerance, 2 if the
files cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOISE_MS = 0.005  # smaller differences are noise of the clock


@dataclass(frozen=True)
class Change:
    """One number in two runs."""

    name: str
    before: float
    after: float
    worse_by: float  # relative change; negative if the number improved


class NotComparableError(Exception):
    """The files cannot be compared."""


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('before', type=Path)
    parser.add_argument('after', type=Path)
    parser.add_argument('--tolerance', type=float, default=0.15, metavar='SHARE',
                        help='allowed relative change for the worse (default: 0.15)')
    parser.add_argument('--relative', action='store_true',
                        help="compare ratios to each run's reference, not times")
    options = parser.parse_args(arguments)
    try:
        found = list(changes(read(options.before), read(options.after), options.relative))
    except NotComparableError as error:
        print(f'compare.py: {error}', file=sys.stderr)
        return 2
    slower = [change for change in found if change.worse_by > options.tolerance]
    for change in sorted(found, key=lambda change: -change.worse_by):
        mark = 'WORSE' if change in slower else ''
        print(f'{change.name:72s} {change.before:12.5g} {change.after:12.5g} '
              f'{100 * change.worse_by:+8.1f} % {mark}'.rstrip())
    print(f'{len(found)} numbers, {len(slower)} worse by more than {options.tolerance:.0%}')
    return 1 if slower else 0


def read(path: Path) -> dict[str, Any]:
    """Return the results in a file, by benchmark.

    Raises:
        NotComparableError: The file cannot be read or contains no results.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise NotComparableError(f'{path} cannot be read: {error}') from error
    if isinstance(content, Mapping) and 'benchmark' in content:
        return {content['benchmark']: content}
    if isinstance(content, Mapping) and content.get('benchmarks'):
        return dict(content['benchmarks'])
    raise NotComparableError(f'{path} is no result of `nav_monitor benchmark ... --json`')


def changes(
    before: Mapping[str, Any], after: Mapping[str, Any], relative: bool
) -> Iterator[Change]:
    """Yield the numbers that two runs have in common.

    Args:
        before: Results of the first run, by benchmark.
        after: Results of the second run, by benchmark.
        relative: Compare ratios to the run's reference instead of times, and only figures that are
            ratios.

    Raises:
        NotComparableError: The runs have no benchmark in common, or their settings differ.
    """
    common = [name for name in before if name in after]
    if not common:
        raise NotComparableError('the files have no benchmark in common')
    for name in common:
        one, other = before[name], after[name]
        if one['settings'] != other['settings']:
            raise NotComparableError(f'{name}: settings differ: {one["settings"]} and '
                                     f'{other["settings"]}; run both alike')
        for what in one['timed']:
            if what in other['timed']:
                key = 'ratio' if relative else 'median_ms'
                old, new = one['timed'][what][key], other['timed'][what][key]
                small = not relative and abs(new - old) < NOISE_MS
                yield Change(f'{name}: {what}, {"ratio" if relative else "median, ms"}', old, new,
                             0.0 if small else new / old - 1)
        for what, figure in one['figures'].items():
            if what in other['figures'] and (not relative or figure['unit'] in ('x', '%')):
                old, new = figure['value'], other['figures'][what]['value']
                if min(old, new) > 0:
                    share = new / old if figure['better'] == 'lower' else old / new
                    yield Change(f'{name}: {what}', old, new, share - 1)


if __name__ == '__main__':
    sys.exit(main())
