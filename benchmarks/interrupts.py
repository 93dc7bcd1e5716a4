"""Interrupt long commands at random moments; each must end in time without partial output.

    python benchmarks/interrupts.py --count 200 [--command fit,train] [--cold 10] [--seed 0]

Each command is interrupted ``--count`` times by SIGINT, SIGTERM or two SIGINTs, at a moment drawn
uniformly from its duration, with openvino, onnxruntime and faiss loaded. It must end within 3 s
with status 130 (0 if it finished before the signal), leave either the previous or complete output,
and leave no other files in its folder and in the temporary folder.

Importing torch takes seconds, so that most runs are forks of a process that has imported all
modules and has not run any command; ``--cold`` runs of each command start a new interpreter, and
are interrupted during imports, too. Writes docs/measured/interrupts.json after each command, and
keeps the rows of other commands there.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interrupt_inputs import FRAMES, record_digits, write_checkpoints

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nav_monitor_ros.files.atomic_file import write_file  # noqa: E402
from nav_monitor_ros.interrupt import GRACE  # noqa: E402

LIMIT = 3.0  # seconds from the first signal to the end
STATUS = 130
# Files that onnxruntime and torch leave in the temporary folder even without an interrupt.
FOREIGN = ('.ses', 'torchinductor_')
HUNG = 30.0  # seconds after which a process is killed
NO_END = 300.0  # longest duration of an uninterrupted command, seconds
LOADED = 'import faiss, onnxruntime, openvino'
COLD = f'{LOADED}; from nav_monitor_ros.cli.command import main; main()'
KINDS = {
    'SIGINT': (signal.SIGINT,), 'SIGTERM': (signal.SIGTERM,),
    'two SIGINTs': (signal.SIGINT, signal.SIGINT),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Command:
    """Command to interrupt."""

    arguments: str
    outputs: tuple[str, ...]  # paths of the outputs, relative to the command's folder
    inputs: Callable[[Path], None] = lambda folder: None
    replaces: str = ''  # output that already exists in half of the runs


def _prepare_replay(folder: Path) -> None:
    (folder / 'drive').symlink_to(_shared / 'drive')


COMMANDS = {
    'fit': Command(
        'fit --model nav_monitor_ros.perception.reference_networks:DigitsNet --weights '
        f'{ROOT}/bundles/digits/model.safetensors --data sample:digits?limit=1500 --calibration '
        'sample:digits?part=3/3 --size 28x28 --color gray --scale 0.00392156862745098 --mean 0.1307'
        ' --std 0.3081 --false-alarm-rate 0.05 --output fitted',
        ('fitted',), replaces='fitted',
    ),
    'train': Command(
        'train digits --data sample:digits --epochs 1 --output trained', ('trained',),
        replaces='trained',
    ),
    'evaluate': Command(
        'evaluate digits --inside sample:digits?limit=1000 --ood triangles=sample:triangles?'
        'count=300 --ood noise=sample:noise?count=300 --output evaluation', ('evaluation',),
    ),
    'replay': Command(
        'replay drive --topic /camera --bundle digits --output judged --csv judged.csv '
        '--html judged.html', ('judged', 'judged.csv', 'judged.html'), _prepare_replay,
    ),
    'export': Command(
        'export digits --calibration sample:digits?limit=1500 --output exported', ('exported',),
        replaces='exported',
    ),
    'tuning': Command(
        'tuning record digits --weights 1.safetensors --weights 2.safetensors '
        '--images sample:digits?limit=1500 --output tuning', ('tuning',), write_checkpoints,
    ),
}
_shared = Path()


@dataclass
class Seen:
    """Results of a command's interrupts."""

    seconds: list[float] = field(default_factory=list)  # from the first signal to the end
    faults: list[dict[str, Any]] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)

    def row(self, duration: float) -> dict[str, Any]:
        """Return the results as a row of the output file."""
        ordered = sorted(self.seconds)
        return {
            'duration_s': round(duration, 2), 'interrupts': len(ordered), 'ended': dict(self.ended),
            'seconds_median': round(ordered[len(ordered) // 2], 3),
            'seconds_longest': round(ordered[-1], 3), 'faults': self.faults,
        }


def main() -> int:
    """Interrupt the commands, print a table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--count', type=int, default=200)
    parser.add_argument('--cold', type=int, default=10, help='interrupts of a new interpreter')
    parser.add_argument('--command', default=','.join(COMMANDS), help='(default: all)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=ROOT / 'docs' / 'measured' / 'interrupts.json')
    options = parser.parse_args()
    wanted = options.command.split(',')
    measured = {
        'count': options.count, 'cold': options.cold, 'seed': options.seed, 'limit_s': LIMIT,
        'python': sys.version.split()[0], 'loaded': ['openvino', 'onnxruntime', 'faiss'],
    }
    rows = _rows_of(options.json, measured)
    global _shared
    # Not a TemporaryDirectory, which the forks would remove when they exit.
    _shared = Path(tempfile.mkdtemp(prefix='interrupts_'))
    try:
        _import_everything()
        if 'replay' in wanted:
            record_digits(_shared / 'drive')
        for what in wanted:
            rows[what] = interrupted(what, options.count, options.cold, options.seed)
            print(f'{what}: {rows[what]}', flush=True)
            write_file(options.json, (json.dumps(
                {**measured, 'commands': {name: rows[name] for name in COMMANDS if name in rows}},
                indent=1,
            ) + '\n').encode())
    finally:
        shutil.rmtree(_shared)
    print(_table(rows))
    return int(any(rows[what]['faults'] for what in wanted))


def _rows_of(path: Path, measured: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of an earlier run of other commands, measured in the same way."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding='utf-8'))
    same = all(found.get(name) == value for name, value in measured.items())
    return found['commands'] if same else {}


def interrupted(what: str, count: int, cold: int, seed: int) -> dict[str, Any]:
    """Interrupt a command ``count`` times, ``cold`` of them in a new interpreter."""
    command = COMMANDS[what]
    rng = random.Random(f'{seed} {what}')
    durations = {}
    for start in (_cold, _warm) if cold else (_warm,):
        whole = _shared / f'{what}{start.__name__}'
        run = _Run(command, whole, start, None)
        durations[start], status = run.undisturbed()
        if status:
            raise SystemExit(f'{what} fails by itself:\n{run.said()}')
        run.judge(status)
        if run.wrong:
            raise SystemExit(f'{what}: {run.wrong}\n{run.said()}')
    seen = Seen()
    number = 0
    while len(seen.seconds) < count:
        start = _cold if len(seen.seconds) < cold else _warm
        folder = _shared / f'{what}_{number}'
        replaced = whole / command.replaces if command.replaces and number % 2 else None
        kind = rng.choice(list(KINDS))
        moment, pause = rng.uniform(0, durations[start]), rng.uniform(0, 0.5)
        number += 1
        run = _Run(command, folder, start, replaced)
        ended = run.interrupted(KINDS[kind], moment, pause)
        if ended is None:  # it ended before the signal
            run.remove()
            continue
        seconds, status = ended
        run.judge(status, seconds)
        seen.seconds.append(seconds)
        seen.ended['done' if status == 0 else 'at once' if seconds > GRACE else 'at a check'] += 1
        if run.wrong:
            seen.faults.append({
                'run': number, 'kind': kind, 'cold': start is _cold, 'moment_s': round(moment, 3),
                'seconds': round(seconds, 3), 'status': status, 'wrong': run.wrong,
                'said': run.said()[-1500:],
            })
        run.remove()
    return seen.row(durations[_warm])


class _Run:
    """One run of a command, in its own folder."""

    def __init__(
        self, command: Command, folder: Path, start: Callable[..., int], replaced: Path | None
    ) -> None:
        self.wrong: list[str] = []
        self._command = command
        self._work, self._temporary = folder, folder.with_name(f'{folder.name}.tmp')
        self._log = folder.with_name(f'{folder.name}.log')
        self._start = start
        self._arguments = command.arguments.split() + ['--force'] * (replaced is not None)
        folder.mkdir()
        self._temporary.mkdir()
        command.inputs(folder)
        self._before = {path.name for path in folder.iterdir()}
        if replaced is not None:
            shutil.copytree(replaced, folder / replaced.name)
            self._before.add(replaced.name)

    def undisturbed(self) -> tuple[float, int]:
        """Run the command without interrupts; return its duration in seconds and its status."""
        pid = self._begin()
        begin = time.monotonic()
        return _ended(pid, NO_END) - begin, _status

    def interrupted(
        self, numbers: tuple[int, ...], moment: float, pause: float
    ) -> tuple[float, int] | None:
        """Interrupt the command.

        Args:
            numbers: Signals to send.
            moment: Seconds from the installation of the handlers to the first signal.
            pause: Seconds between the signals.

        Returns:
            Seconds from the first signal to the end, and the status; None if the command ended
            before the first signal.
        """
        pid = self._begin()
        if _ended(pid, moment, kill=False):
            if _status:
                raise SystemExit(f'it fails by itself:\n{self.said()}')
            return None
        begin = time.monotonic()
        end = 0.0
        for number in numbers:
            os.kill(pid, number)
            end = _ended(pid, pause, kill=False)
            if end:
                break
        return (end or _ended(pid, HUNG)) - begin, _status

    def judge(self, status: int, seconds: float = 0.0) -> None:
        """Record all faults of the finished run."""
        if status not in (STATUS, 0):
            self.wrong.append(f'status {status}')
        if seconds > LIMIT:
            self.wrong.append(f'took {seconds:.1f} s')
        there = {path.name for path in self._work.iterdir()}
        if left := there - self._before - set(self._command.outputs):
            self.wrong.append(f'left {sorted(left)}')
        if gone := self._before - there:
            self.wrong.append(f'lost {sorted(gone)}')
        names = sorted(path.name for path in self._temporary.iterdir())
        if kept := [name for name in names if not name.startswith(FOREIGN)]:
            self.wrong.append(f'left {kept} in the temporary folder')
        if status == 0 and (lacking := set(self._command.outputs) - there):
            self.wrong.append(f'said that it is done without {sorted(lacking)}')
        for name in sorted(there & set(self._command.outputs)):
            try:
                _read(self._work / name)
            except Exception as error:  # any error shows that the output is incomplete
                self.wrong.append(f'{name} is not whole: {type(error).__name__}: {error}')

    def said(self) -> str:
        """Return what the process printed."""
        return self._log.read_text(errors='replace')

    def remove(self) -> None:
        """Remove the folders and the log of the run."""
        shutil.rmtree(self._work)
        shutil.rmtree(self._temporary)
        self._log.unlink(missing_ok=True)

    def _begin(self) -> int:
        """Start the command and wait until it handles signals; return its process ID."""
        pid = self._start(self._arguments, self._work, self._temporary, self._log)
        status = Path(f'/proc/{pid}/status')
        while True:
            lines = dict(line.split(':', 1) for line in status.read_text().splitlines())
            if int(lines['SigCgt'], 16) >> (signal.SIGTERM - 1) & 1 or 'Z' in lines['State']:
                return pid
            time.sleep(0.001)


def _warm(arguments: list[str], work: Path, temporary: Path, log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(work, temporary, log)
        sys.argv = ['nav_monitor', *arguments]
        from nav_monitor_ros.cli.command import main

        main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)  # not reached: the command ends the process


def _cold(arguments: list[str], work: Path, temporary: Path, log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(work, temporary, log)
        os.environ['PYTHONPATH'] = os.pathsep.join(
            filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
        os.execv(sys.executable, [sys.executable, '-c', COLD, *arguments])
    finally:
        os._exit(99)


def _become(work: Path, temporary: Path, log: Path) -> None:
    """Set up this process as a shell would start it."""
    os.setpgid(0, 0)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else
                      signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(file, number)
    os.chdir(work)
    os.environ['TMPDIR'] = tempfile.tempdir = str(temporary)


_status = 0


def _ended(pid: int, seconds: float, *, kill: bool = True) -> float:
    """Wait for the end of a process; return its time, or 0.0 if the process still runs."""
    global _status
    limit = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        now = time.monotonic()
        if found:
            _status = os.waitstatus_to_exitcode(status)
            return now
        if now >= limit:
            break
        time.sleep(0.002)
    if not kill:
        return 0.0
    subprocess.run(['ps', '-L', '-o', 'tid,stat,wchan:30,comm', '-p', str(pid)], check=False)
    os.kill(pid, signal.SIGKILL)
    _status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return time.monotonic()


def _read(path: Path) -> None:
    """Read an output as its users would; raise an exception if it is incomplete."""
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.tuning.recording_files import TuningRecording

    if path.suffix == '.csv':
        lines = path.read_text().splitlines()
        assert len({line.count(',') for line in lines}) == 1 and len(lines) > FRAMES
    elif path.suffix == '.html':
        assert path.read_text().rstrip().endswith('</html>')
    elif path.name == 'tuning':
        recording = TuningRecording.open(path)
        for place in range(len(recording.checkpoints)):
            recording.checkpoint(place)
        assert not list(path.rglob('*.part'))
    elif path.name == 'evaluation':
        names = {file.name for file in path.iterdir()}
        assert names <= {'metrics.json', 'report.html'}, names
        if 'metrics.json' in names:
            json.loads((path / 'metrics.json').read_text())
        if 'report.html' in names:
            _read(path / 'report.html')
    elif path.name == 'judged':
        from rosbags.rosbag2 import Reader

        with Reader(path) as reader:
            assert sum(1 for _ in reader.messages()) > FRAMES
    else:
        bundle = load_bundle(path)
        if bundle.stored is not None:
            bundle.stored.load()


def _import_everything() -> None:
    """Import the modules of all commands without starting threads, which a fork does not copy."""
    import faiss  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime
    import onnxscript  # noqa: F401
    import openvino  # noqa: F401
    import torch

    import nav_monitor_ros.cli.main
    import nav_monitor_ros.evaluation.evaluate
    import nav_monitor_ros.evaluation.report_page
    import nav_monitor_ros.fitting.engine_export
    import nav_monitor_ros.fitting.train
    import nav_monitor_ros.replay.output_files
    import nav_monitor_ros.replay.replay
    import nav_monitor_ros.tuning.recorder  # noqa: F401

    onnxruntime.set_default_logger_severity(3)
    torch.set_num_threads(1)
    gc.freeze()


def _table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [f'{"command":10} {"runs":>5} {"at a check":>10} {"at once":>8} {"done":>5} '
             f'{"median s":>9} {"longest s":>9} {"faults":>7}']
    for what, row in rows.items():
        ended = row['ended']
        lines.append(
            f'{what:10} {row["interrupts"]:5} {ended.get("at a check", 0):10} '
            f'{ended.get("at once", 0):8} {ended.get("done", 0):5} {row["seconds_median"]:9.2f} '
            f'{row["seconds_longest"]:9.2f} {len(row["faults"]):7}')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
