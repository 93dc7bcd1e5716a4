"""Signals as requests: looked at between steps, at once when repeated or overdue, nothing left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import with_default_signals

from nav_monitor_ros import interrupt
from nav_monitor_ros.files.atomic_file import atomic_file
from nav_monitor_ros.files.atomic_folder import atomic_folder
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.interrupt import Interrupted, UndoOnInterrupt

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
BEGIN = """
import ctypes, hashlib, signal, sys, time
from pathlib import Path
from nav_monitor_ros import interrupt
from nav_monitor_ros.files.atomic_file import atomic_file
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.interrupt import UndoOnInterrupt, finish_uninterrupted, raise_if_requested

def ready():
    print('ready', flush=True)

libc = ctypes.CDLL(None)

def foreign():  # a long call that lets other threads run meanwhile, as most libraries do
    hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)

"""
COMMANDS = ('fit', 'evaluate', 'replay', 'tuning')
ENDS = 3.0  # seconds that an interrupted command may take
AT_A_CHECK = 1.0  # far below the time after which it is ended without one


@pytest.fixture
def program(tmp_path):
    """Return a function that starts a program and returns it once it is ready."""
    running = []

    def start(code, *, command=with_default_signals, listen=True, **options):
        begin = BEGIN + ('interrupt.handle_signals()\n' if listen else '')
        process = subprocess.Popen(
            command(sys.executable, '-c', begin + code), cwd=tmp_path, stdout=subprocess.PIPE,
            **{'stderr': subprocess.PIPE, **options}, text=True,
            env={**os.environ, 'PYTHONPATH': str(ROOT), 'TMPDIR': str(tmp_path)},
        )
        running.append(process)
        assert process.stdout.readline() == 'ready\n'
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def end_of(process, *numbers, pause=0.1):
    """Send signals; return the seconds from the first one to the end, and the status."""
    begin = time.monotonic()
    for place, number in enumerate(numbers):
        if place:
            time.sleep(pause)  # how long a person takes to press the keys again
        process.send_signal(number)
    status = process.wait(30)
    return time.monotonic() - begin, status


LOOP = """
ready()
try:
    while True:
        raise_if_requested()
        time.sleep(0.01)
except interrupt.Interrupted:
    print('unwound', flush=True)
interrupt.exit_process(0)
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_work_ends_at_its_next_check_whatever_signal_asked(program, number):
    process = program(LOOP)
    seconds, status = end_of(process, number)
    assert status == 130 and seconds < AT_A_CHECK
    assert process.stdout.read() == 'unwound\n' and process.stderr.read() == ''


def test_no_signal_raises_where_work_does_not_look(program):
    """Neither in a destructor, where it would be swallowed, nor in a callback of foreign code."""
    process = program("""
class Thing:
    def __del__(self):
        for _ in range(200):
            time.sleep(0.001)

compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

@compare
def called(*_):
    time.sleep(0.001)
    return 0

array = (ctypes.c_int * 100)()
ready()
try:
    while True:
        Thing()
        libc.qsort(array, 100, 4, called)
        raise_if_requested()
except interrupt.Interrupted:
    print('unwound', flush=True)
interrupt.exit_process(0)
""")
    seconds, status = end_of(process, signal.SIGINT)
    assert status == 130 and seconds < ENDS
    assert process.stdout.read() == 'unwound\n' and process.stderr.read() == ''


# In the midst of one long foreign call, with unfinished output of each kind.
FOREIGN = """
child = __import__('subprocess').Popen(['sleep', '60'])
with (scratch_folder() as folder, atomic_file(Path('new/deep/file')) as file,
      UndoOnInterrupt(child.kill)):
    (folder / 'sub').mkdir()
    (folder / 'sub' / 'part').write_text('half')
    file.write_text('half')
    print('ready', child.pid, sep='\\n', flush=True)
    foreign()
"""


@pytest.mark.parametrize(
    ('numbers', 'least', 'most'),
    [
        ((signal.SIGINT,), interrupt.GRACE, ENDS),
        ((signal.SIGTERM,), interrupt.GRACE, ENDS),
        ((signal.SIGINT, signal.SIGINT), 0.0, 1.2),
        ((signal.SIGTERM, signal.SIGINT), 0.0, 1.2),
    ],
    ids=['SIGINT, overdue', 'SIGTERM, overdue', 'SIGINT twice', 'SIGTERM, then SIGINT'],
)
def test_a_long_foreign_call_is_ended_and_what_is_unfinished_goes(
    program, tmp_path, numbers, least, most
):
    process = program(FOREIGN)
    child = int(process.stdout.readline())
    seconds, status = end_of(process, *numbers)
    assert status == 130 and least <= seconds < most
    assert process.stderr.read() == 'interrupted; nothing was written\n'
    assert list(tmp_path.iterdir()) == []
    end = time.monotonic() + 10
    while Path(f'/proc/{child}').exists() and zombie(child) is False:
        assert time.monotonic() < end, 'the child lives'
        time.sleep(0.01)


def zombie(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except OSError:
        return True


def test_an_import_is_ended_too(program, tmp_path):
    (tmp_path / 'slow.py').write_text('print("ready", flush=True)\nimport time\ntime.sleep(60)\n')
    process = program("sys.path.insert(0, '.')\nimport slow")
    seconds, status = end_of(process, signal.SIGINT)
    assert status == 130 and seconds < ENDS


def test_output_that_is_being_put_in_its_place_gets_there(program, tmp_path):
    process = program("""
with finish_uninterrupted(Path('folder')):
    ready()
    time.sleep(0.4)  # of two renames, the first is done
    Path('folder').mkdir()
foreign()
""")
    _, status = end_of(process, signal.SIGINT, signal.SIGINT)
    assert status == 130 and [path.name for path in tmp_path.iterdir()] == ['folder']
    assert process.stderr.read() == 'interrupted; already written: folder\n'


def test_nothing_is_put_in_its_place_after_the_request(program, tmp_path):
    process = program("""
with atomic_file(Path('file')) as file:
    file.write_text('whole')
    ready()
    while not interrupt.requested():
        time.sleep(0.01)
""")
    _, status = end_of(process, signal.SIGINT)
    assert status != 0 and list(tmp_path.iterdir()) == []


def test_what_was_written_before_is_told(program, tmp_path):
    process = program("""
for number in range(5):
    with atomic_file(Path(f'{number}')) as file:
        file.write_text('whole')
ready()
foreign()
""")
    end_of(process, signal.SIGTERM, signal.SIGTERM)
    assert process.stderr.read() == 'interrupted; already written: 0, 1, 2 and 2 more\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == list('01234')


@pytest.mark.parametrize('caller', ['background job', 'nohup'])
def test_what_the_caller_has_set_to_be_ignored_stays_ignored(program, caller):
    number = signal.SIGINT if caller == 'background job' else signal.SIGHUP

    def command(*parts):
        return [*with_default_signals(), f'--ignore-signal={signal.Signals(number).name[3:]}',
                *parts]

    process = program("""
ready()
before = time.monotonic()
while time.monotonic() < before + 2.5:
    raise_if_requested()
    time.sleep(0.01)
interrupt.exit_process(0)
""", command=command)
    assert end_of(process, number, number)[1] == 0
    other = program(LOOP, command=command)
    assert end_of(other, signal.SIGTERM)[1] == 130


def test_a_blocked_terminal_does_not_keep_it(program):
    """As with Ctrl-S: nobody reads what it says."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b'x' * 65536)
        os.set_blocking(writing, True)
        process = program(LOOP.replace(
            "print('unwound', flush=True)", "print('unwound', file=sys.stderr, flush=True)"
        ), stderr=writing)
        seconds, status = end_of(process, signal.SIGINT)
        assert status == 130 and seconds < ENDS
    finally:
        os.close(reading)
        os.close(writing)


def test_a_library_that_sets_a_handler_of_its_own_does_not_take_the_signal_away(program):
    process = program("""
def raising(number, frame):
    sys.exit(number)

signal.signal(signal.SIGTERM, raising)
interrupt.handle_signals_again()
""" + LOOP)
    seconds, status = end_of(process, signal.SIGTERM)
    assert status == 130 and seconds < AT_A_CHECK


def test_the_streams_and_the_exit_functions_of_a_finished_command_are_served(program):
    process = program("""
import atexit
atexit.register(print, 'bye')
ready()
print('last line')
interrupt.exit_process(3)
""")
    assert process.wait(10) == 3 and process.stdout.read() == 'last line\nbye\n'


def test_whoever_does_not_listen_has_pythons_own_interrupt(program):
    """As those who use the package as a library."""
    process = program("""
interrupt.raise_if_requested()
try:
    ready()
    time.sleep(60)
except KeyboardInterrupt as error:
    print(type(error).__name__, interrupt.requested(), flush=True)
""", listen=False)
    assert end_of(process, signal.SIGINT)[1] == 0
    assert process.stdout.read() == 'KeyboardInterrupt False\n'


# ------------------------------------------------------------------ files


def interrupt_after(_done):
    raise Interrupted


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'deep' / 'down' / 'file'
    with pytest.raises(Interrupted), atomic_file(path) as scratch:
        interrupt_after(scratch.write_text('half'))
    assert list(tmp_path.iterdir()) == []
    with atomic_file(path) as scratch:
        scratch.write_text('whole')
        assert not path.exists()
    assert path.read_text() == 'whole' and [p.name for p in path.parent.iterdir()] == ['file']
    with pytest.raises(Interrupted), atomic_file(path) as scratch:
        interrupt_after(scratch.write_text('half'))
    assert path.read_text() == 'whole' and [p.name for p in path.parent.iterdir()] == ['file']


def test_folders_that_were_there_stay(tmp_path):
    (tmp_path / 'there').mkdir()
    with pytest.raises(Interrupted), atomic_file(tmp_path / 'there' / 'new' / 'file'):
        raise Interrupted
    assert [path.name for path in tmp_path.rglob('*')] == ['there']
    with pytest.raises(NotADirectoryError), atomic_file(Path(__file__) / 'file'):
        pass


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    folder = tmp_path / 'deep' / 'folder'
    with pytest.raises(Interrupted), atomic_folder(folder) as scratch:
        interrupt_after((scratch / 'sub').mkdir())
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(folder) as scratch:
        assert scratch.name == 'folder' and scratch.parent.parent == tmp_path / 'deep'
        (scratch / 'sub').mkdir()
        assert not folder.exists()
    assert [path.name for path in folder.parent.rglob('*')] == ['folder', 'sub']


def test_a_scratch_folder_goes_whatever_happens(tmp_path):
    with pytest.raises(Interrupted), scratch_folder() as folder:
        interrupt_after((folder / 'file').write_text(''))
    assert not folder.exists()


def test_what_is_complete_is_not_undone():
    with UndoOnInterrupt(lambda: None):
        assert interrupt._unfinished
    assert not interrupt._unfinished


# ------------------------------------------------------------------ commands


def test_commands_end_in_time_and_leave_nothing_half_written(tmp_path):
    """A few of the interrupts of the benchmark; `python benchmarks/interrupts.py` sends more."""
    pytest.importorskip('rosbags')
    done = subprocess.run(
        [sys.executable, str(ROOT / 'benchmarks' / 'interrupts.py'), '--command',
         ','.join(COMMANDS), '--count', '1', '--cold', '0', '--json', str(tmp_path / 'seen.json')],
        capture_output=True, text=True, timeout=200, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / 'seen.json').read_text())['commands']
    for command in COMMANDS:
        assert rows[command]['interrupts'] == 1 and rows[command]['faults'] == []
