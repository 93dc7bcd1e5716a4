"""Print the contents of a bundle."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rich.console import Console
from rich.table import Table

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.bundle_files import size_of

LISTED_CLASSES = 50  # class names that are listed


def show(bundle: Bundle, console: Console) -> None:
    """Print a bundle.

    Args:
        bundle: Bundle read from a folder.
        console: Console to print to.
    """
    assert bundle.folder is not None
    calibration = bundle.calibration
    size = size_of(bundle.folder) / 1e6
    arguments = ', '.join(f'{k}={v!r}' for k, v in bundle.network.arguments.items())
    names = ', '.join(bundle.class_names[:LISTED_CLASSES])
    more = len(bundle.class_names) - LISTED_CLASSES
    names += f' and {more} more' if more > 0 else ''
    preprocessing = ', '.join(f'{k} {v}' for k, v in bundle.preprocess.to_dict().items())
    first = next(iter(bundle.scores.values()))
    _print_rows(
        console,
        f'Bundle {bundle.name}',
        [
            ('folder', f'{bundle.folder} ({size:.1f} MB)'),
            ('network', f'{bundle.network.spec}({arguments})'),
            ('preprocessing', preprocessing),
            ('monitored layer', f'{bundle.layer}, {first.width} neurons'),
            (f'{len(bundle.class_names)} classes', names),
            *(('note', note) for note in bundle.notes()),
            (
                'false alarms',
                f'at most {calibration.alpha:.2%} of in-distribution frames, '
                f'with {calibration.confidence:.0%} confidence; {len(calibration.fused)} images, '
                f'equivalent to {calibration.effective_size} independent ones, calibrate the fused '
                'score',
            ),
            *(
                (key.replace('_', ' '), _line(value))
                for key, value in bundle.shown_provenance.items()
            ),
        ],
    )
    _print_scores(bundle, console)
    if bundle.stored is not None:
        console.print(engines_table(bundle))
    _print_layers(bundle, console)


def engines_table(bundle: Bundle) -> Table:
    """Return the table of the engines for which the network was exported."""
    table = Table(
        title=f'Engines on the calibration images, compared with {bundle.reference}',
        title_justify='left',
    )
    table.add_column('engine', no_wrap=True)
    for heading in (
        'images', 'reclassified', 'flagged (reference)', 'largest change', 'calibration',
    ):
        table.add_column(heading, overflow='fold')
    stored = bundle.stored
    for one in stored.summaries() if stored is not None else []:
        assert stored is not None
        own = stored.own_calibration(one.engine)
        table.add_row(
            str(one.engine), str(one.images), str(one.reclassified),
            f'{one.flagged} ({one.flagged_by_reference})',
            f'{one.largest_change:.2g} standard deviations',
            f'refused: {one.refused}' if one.refused else 'its own' if own else 'from the fit',
        )
    return table


def _print_rows(console: Console, title: str, rows: Iterable[tuple[str, str]]) -> None:
    table = Table(title=title, show_header=False, title_justify='left')
    table.add_column(style='bold', no_wrap=True)
    table.add_column(overflow='fold')
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _print_scores(bundle: Bundle, console: Console) -> None:
    calibration = bundle.calibration
    table = Table(title='Scores', title_justify='left')
    for heading in ('score', 'options', 'fused', 'images', 'flagged at'):
        table.add_column(heading, overflow='fold')
    for name, conformal in {**calibration.scores, 'fused': calibration.fused}.items():
        settings = bundle.scores[name].settings if name in bundle.scores else {}
        table.add_row(
            name,
            ', '.join(f'{key} {value}' for key, value in settings.items()),
            _part_in_fusion(bundle, name),
            str(len(conformal)),
            _threshold(calibration.thresholds.get(name)),
        )
    console.print(table)


def _part_in_fusion(bundle: Bundle, name: str) -> str:
    member = 'member' if name in bundle.calibration.fusion_members else ''
    weight = bundle.calibration.fusion_weights.get(name)
    if weight is not None:
        member = f'member, weight {weight:.2f}'
    return ', '.join(filter(None, (member, 'degenerate' if name in bundle.degenerate else '')))


def _threshold(per_class: np.ndarray | None) -> str:
    if per_class is None:
        return 'too few independent images'
    low, high = f'{per_class.min():.5f}', f'{per_class.max():.5f}'
    return f'p <= {high}' if low == high else f'p <= {low} to {high}, by class'


def _print_layers(bundle: Bundle, console: Console) -> None:
    table = Table(title='Layers, in the order of execution', title_justify='left')
    table.add_column('number', justify='right')
    table.add_column('name')
    table.add_column('1 % .. 99 % of its values in training', justify='right')
    for number, (name, (low, high)) in enumerate(bundle.layer_ranges.items(), start=1):
        table.add_row(str(number), name, f'{low:.4g} .. {high:.4g}')
    console.print(table)


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{key} {item}' for key, item in value.items())
    return str(value)
