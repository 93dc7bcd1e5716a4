"""Cost of fitting to very many images (docs/measured/scale.json, fit_memory.json) as tables."""

from __future__ import annotations

from typing import Any

from measured import percent, read, table

FRAMES = 10**9
RAW = 640 * 480 * 3  # bytes of an uncompressed camera image
RATES = (1_000, 3_000, 10_000)  # assumed images per second on one GPU


def workers() -> str:
    """Return the rates of one and two workers on one machine."""
    found = _workers()
    each = found['seconds_an_image']
    return table(
        ['workers on this machine', 'images per second', 'relative to one worker'],
        [
            (count, f'{1 / seconds:.1f}', f'{each["1"] / seconds:.2f}')
            for count, seconds in each.items()
        ],
    )


def workers_machine() -> str:
    """Return the machine and the settings of that measurement."""
    found = _workers()
    return (
        f'ResNet-18 at {found["size"]} x {found["size"]}, JPEGs of 640 x 480, on '
        f'{found["machine"]["cores"]} cores (`{found["machine"]["cpu"]}`) whose load was '
        f'{found["machine"]["load_1_min"]:.1f} in the last minute of the measurement.'
    )


def merging() -> str:
    """Return the size of the states and the cost of merging them."""
    found = read('scale')['merging']
    return table(
        [f'{found["states"]} states of {found["images_a_state"]} images each', ''],
        [
            ('one state, as a worker reports it', _size(found['state_bytes'])),
            ('the final state, after all merges', _size(found['root_bytes'])),
            ('what every worker is sent at the start', _size(found['prepared_bytes'])),
            ('one merge, median', f'{1e3 * found["merge_seconds"]:.0f} ms'),
            ('one merge, the slowest', f'{1e3 * found["merge_seconds_largest"]:.0f} ms'),
            ('all merges, on one core', f'{found["merge_seconds_in_all"]:.0f} s'),
            ('updating all scores, per image', f'{1e6 * found["update_seconds_an_image"]:.0f} us'),
        ],
    )


def by_score() -> str:
    """Return the share of each score in the state."""
    found = read('scale')['merging']
    shares = sorted(found['bytes_by_score'].items(), key=lambda item: -item[1])
    rows = [(f'`{name}`', _size(size)) for name, size in shares if size > 1e5]
    rest = sum(size for _, size in shares if size <= 1e5)
    return table(['score', 'of the merged state'], [*rows, ('all others', _size(rest))])


def levels() -> str:
    """Return the size of the state at each level of the tree."""
    found = read('scale')['merging']
    return table(
        ['images in a state', 'merges', 'size of one state'],
        [
            (f'{found["images_a_state"] << int(level):,}', str(row['merges']), _size(row['bytes']))
            for level, row in found['levels'].items()
        ],
    )


def billion() -> str:
    """Return the estimated cost of 10^9 frames."""
    merging_, workers_ = read('scale')['merging'], _workers()
    parts = -(-FRAMES // merging_['images_a_state'])
    jpeg = workers_['bytes_an_image']
    # The mean is used: merges higher up in the tree take longer, and their share is the same.
    each = merging_['merge_seconds_in_all'] / (merging_['states'] - 1)
    rows: list[tuple[str, str]] = [
        (f'read, JPEGs of {jpeg / 1e3:.0f} kB', _size(FRAMES * jpeg)),
        ('read, 640 x 480 in colour, uncompressed', _size(FRAMES * RAW)),
        *(
            (f'GPU time at {rate:,} images per second', f'{FRAMES / rate / 3600:,.0f} h')
            for rate in RATES
        ),
        (
            'updating the scores, CPU time',
            f'{FRAMES * merging_["update_seconds_an_image"] / 3600:,.0f} core hours',
        ),
        ('parts, and merges', f'{parts:,}'),
        ('states sent, in total', _size(parts * merging_['state_bytes'])),
        ('merging, in total', f'{parts * each / 3600:.1f} core hours'),
        ('depth of the tree', str((parts - 1).bit_length())),
        ('state at the end', _size(merging_['root_bytes'])),
    ]
    return table([f'{FRAMES:,} frames', ''], rows)


def memory() -> str:
    """Return the memory use of fits to few and to many images."""
    found = read('fit_memory')
    rows = [
        (f'{int(count):,}', f'{run["before_mb"]:.0f} MB', f'{run["peak_mb"]:.0f} MB')
        for count, run in found['runs'].items()
    ]
    return (
        table(
            ['digits fitted to', 'largest resident set until the fit began', 'until it ended'], rows
        )
        + f'\n\nThe two peaks (last column) differ by {percent(found["growth"], 1)} %.'
    )


def _workers() -> dict[str, Any]:
    found: dict[str, Any] = read('scale')['workers']
    return found


def _size(count: float) -> str:
    for unit, size in (('PB', 1e15), ('TB', 1e12), ('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if count >= size:
            return f'{count / size:.3g} {unit}'
    return f'{count:.0f} B'
