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
            ('false alarms', _budget(bundle)),
            *(
                (key.replace('_', ' '), _shown(bundle, key, value))
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
    refused: dict[str, list[str]] = {}  # reason -> engines
    for one in stored.summaries() if stored is not None else []:
        assert stored is not None
        own = stored.own_calibration(one.engine)
        if one.refused:
            refused.setdefault(one.refused, []).append(str(one.engine))
        figures = [
            str(one.images), str(one.reclassified),
            f'{one.flagged} ({one.flagged_by_reference})',
            f'{one.largest_change:.2g} standard deviations',
        ] if one.images else ['none', '', '', '']
        table.add_row(
            str(one.engine), *figures,
            'refused' if one.refused else 'its own' if own else 'from the fit',
        )
    if refused:
        table.caption = '\n'.join(
            f'{", ".join(names)} refused: {reason}' for reason, names in refused.items()
        )
        table.caption_justify = 'left'
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


def _budget(bundle: Bundle) -> str:
    """Return the false-alarm budget, and on how many images it was calibrated."""
    calibration = bundle.calibration
    images, effective = len(calibration.fused), calibration.effective_size
    text = (
        f'at most {calibration.alpha:.2%} of in-distribution frames, with '
        f'{calibration.confidence:.0%} confidence; {images} images'
    )
    if effective == images:
        return f'{text} calibrate the fused score'
    return (
        f'{text} in groups, equivalent to {effective} independent ones, calibrate the fused score. '
        'The confidence is approximate, because the images of one group are alike (docs/judging.md)'
    )


def _shown(bundle: Bundle, key: str, value: object) -> str:
    """Return the text on an entry of the provenance, which may hold anything."""
    if key == 'labels':
        return 'from the data' if bundle.is_labelled else _line(value)
    if key == 'correctly_classified':
        data = bundle.provenance.get('data')
        share = _share(value, data.get('images') if isinstance(data, dict) else None)
        return f'{share[0]} training images {share[1]}' if share else _line(value)
    if key == 'calibration' and isinstance(value, dict):
        share = _share(value.get('correctly_classified'), value.get('labelled'))
        if share:
            rest = {
                name: item for name, item in value.items()
                if name not in ('correctly_classified', 'labelled')
            }
            return f'{_line(rest)}, {share[0]} with labels are classified correctly {share[1]}'
    return _line(value)


def _share(count: object, total: object) -> tuple[str, str] | None:
    """Return ``1 of 4`` and ``(25.0%)``, None if these are not such numbers."""
    if not (isinstance(count, int) and isinstance(total, int) and total > 0):
        return None
    return f'{count} of {total}', f'({count / total:.1%})'


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{key} {item}' for key, item in value.items())
    return str(value)
