"""Measurements of the alert (docs/measured/) as Markdown tables."""

from __future__ import annotations

from typing import Any

from measured import percent, read, table


def faults() -> str:
    """Return each fault with its reason, its times and its recovery."""
    return table(
        ['fault', 'reason', 'True after', 'limit', 'wheels stopped after', 'recovery', 'after'],
        [
            (
                row['fault'],
                _reason(row),
                _true_after(row),
                seconds(row['within']),
                seconds(row['to_zero']),
                row['recovery'],
                f'{row["to_recovery"]:.1f} s',
            )
            for row in read('faults')
        ],
    )


def interrupts() -> str:
    """Return what interrupts of each command led to."""
    measured = read('interrupts')
    return table(
        ['command', 'interrupts', 'ended at a check', 'ended at once', 'had finished',
         'median time to the end', 'longest', 'faults'],
        [
            (
                f'`{name}`', str(row['interrupts']),
                *(str(row['ended'].get(how, 0)) for how in ('at a check', 'at once', 'done')),
                seconds(row['seconds_median']), seconds(row['seconds_longest']),
                str(len(row['faults'])),
            )
            for name, row in measured['commands'].items()
        ],
    )


def streams() -> str:
    """Return false alarms and delays of each way to combine frames, on digits."""
    measured = read('streams')
    hours = measured['hours']
    return table(
        [
            'evidence', 'rate', 'level',
            *(f'{_stream(name)}, 1/h' for name in hours),
            'a new triangle every frame', 'one triangle',
        ],
        [
            (
                *_scheme(row),
                *(f'{row["false_alarms_per_hour"][name]:.1f}' for name in hours),
                *(_delay(row['delays'][name]) for name in row['delays']),
            )
            for row in measured['digits']
        ],
    )


def tracks() -> str:
    """Return the same for the signs: alarms per 100 tracks."""
    measured = read('streams')
    per_hour = 3600 / measured['track_seconds']
    return table(
        [
            'evidence', 'rate', 'level', 'alarms in 100 tracks',
            'a new photograph every frame, frames until the alert (median / 95th percentile)',
        ],
        [
            (
                *_scheme(row, 'threshold'),
                f'{100 * row["false_alarms_per_hour"]["tracks"] / per_hour:.1f}',
                *(_delay(delay) for delay in row['delays'].values()),
            )
            for row in measured['signs']
            if row['level'] in (None, 'power')  # any other is raised to the threshold
        ],
    )


def machine() -> str:
    """Return the false alarms of the complete state machine on the streams of digits."""
    measured = read('streams')
    return '; '.join(
        f'{_stream(name)}: {count} in {measured["hours"][name]:.1f} h'
        for name, count in measured['false_alarms_of_the_state_machine'].items()
    )


def brightness() -> str:
    """Return the share of dimmed digits that raise the alert."""
    measured = read('streams')['brightness']
    return table(
        ['light', *(f'{light} %' for light in measured)],
        [
            (
                'digits that raise the alert',
                *(f'{percent(row["alerts"], 0)} %' for row in measured.values()),
            ),
            (
                'calibration called stale after',
                *('never' if row['stale_s'] is None else f'{row["stale_s"]} s'
                  for row in measured.values()),
            ),
        ],
    )


def soak() -> str:
    """Return the results of the soak test for each kind of fault."""
    measured = read('soak')
    rows = [
        (
            name, str(fault['count']), str(fault['missed']),
            _span(fault['seconds_to_stop']), _span(fault['seconds_to_recover']),
        )
        for name, fault in measured['faults'].items()
    ]
    lives = measured['memory']
    growth = max((life['mb_at_the_end'] - life['mb_after_a_minute'] for life in lives), default=0)
    count = sum(fault['count'] for fault in measured['faults'].values())
    return '\n\n'.join([
        table(['fault', 'count', 'missed', 'wheels stopped after', 'turning again after'], rows),
        f'{measured["minutes"]:.0f} minutes, {measured["frames_judged"]} frames judged '
        f'({measured.get("dropped_unjudged", 0)} dropped unjudged, '
        f'{measured.get("lost_in_transport", 0)} lost in transport), {count} faults: '
        f'**{measured["missed_alerts"]} missed alerts, {len(measured["crashes"])} crashes, '
        f'{_false_alarms(measured["false_alarms"])}**. {_restarts(measured["restarts"])}'
        f'In the {len(lives)} monitor processes '
        f'that ran for two minutes or longer, memory grew by at most {growth:.1f} MB between the '
        f'first minute and the end; the first of them ended at '
        f'{lives[0]["mb_at_the_end"]:.0f} MB. Latency from an image to its verdict: median '
        f'{measured["latency_ms_median"]:.1f} ms, p99 {measured["latency_ms_p99_median"]:.1f} ms '
        f'(the worst p99 of 300 consecutive images: {measured["latency_ms_p99_worst"]:.0f} ms).',
    ])


def _false_alarms(alarms: list[dict[str, Any]]) -> str:
    if not alarms:
        return '0 false alarms'
    reasons = ', '.join(f'`{alarm["reason"]}`' for alarm in alarms)
    return f'{len(alarms)} false alarm{"s" * (len(alarms) > 1)} ({reasons})'


def _restarts(count: int) -> str:
    if not count:
        return ''
    return (
        f'The monitor asked for {count} restart{"s" * (count > 1)}, because its images did not '
        'come back after a suspension. '
    )


def garbage() -> str:
    """Return the effect of random bytes on the running node."""
    seen = read('garbage')
    count = seen['false_said']
    said = f'published False {count} times' if count else 'never published False'
    before, after = (f'{seen[key]:.0f}' for key in ('mb_settled', 'mb_at_the_end'))
    memory = f'stayed at {after} MB' if before == after else f'went from {before} to {after} MB'
    return (
        f'In {seen["minutes"]:.0f} minutes, the running node was sent {seen["images"]} images '
        f'with random values in every field and {seen["parameter_sets"]} sets of random parameters '
        f'({seen["parameter_sets_accepted"]} of them valid). It '
        f'{"kept running" if seen["alive"] else "DIED"} and {said}; its memory {memory}, and a '
        f'camera started afterwards was {"" if seen["judges_again"] else "NOT "}trusted as usual.'
    )


def fuzz() -> str:
    """Return the executions and findings of each fuzzer."""
    return table(
        ['target', 'minutes', 'executions', 'findings left'],
        [
            (f'`{name}`', f'{run["minutes"]:.0f}', f'{run["executions"]:,}', str(run['findings']))
            for name, run in read('fuzz').items()
            if isinstance(run, dict) and 'executions' in run
        ],
    )


def _stream(name: str) -> str:
    return name.replace('another', 'a new').replace('each 1 s', 'every second').replace(
        'each', 'every')


def _scheme(row: dict[str, Any], shown: str = '0.001') -> tuple[str, str, str]:
    if row['evidence'] == 'k_of_n':
        return f'{row["enter_count"]} of {row["enter_window"]}', '', 'threshold'
    level = 'threshold' if row['level'] is None else str(row['level'])
    if level == 'power':
        level = 'e = 0.1 p^-0.9'
    default = row['evidence_rate'] == 15 and level == shown
    cells = ('e_cusum', f'{row["evidence_rate"]:g} Hz', level)
    return tuple(f'**{cell}**' for cell in cells) if default else cells  # type: ignore[return-value]


def _delay(delay: dict[str, float | None]) -> str:
    median, p95, missed = delay['median'], delay['p95'], delay['missed']
    shown = ' / '.join('never' if d is None else f'{d:.0f}' for d in (median, p95))
    return f'{shown} ({percent(missed or 0, 0)} % never)' if missed else shown


def _reason(row: dict[str, Any]) -> str:
    if row['reason']:
        return f'`{row["reason"]}`'
    return 'none needed' if row.get('by') else 'silence'


def _true_after(row: dict[str, Any]) -> str:
    if row['to_true'] is not None:
        shown = seconds(row['to_true'])
        return f'**{shown}** (over the limit)' if row['to_true'] > row['within'] else shown
    return 'the gate acts' if row.get('by') else 'never: silent'


def seconds(value: float) -> str:
    """Return a time in s."""
    return f'{value:.2f} s'


def _span(values: list[float]) -> str:
    return f'{values[0]:.2f} to {values[1]:.2f} s' if values else ''
