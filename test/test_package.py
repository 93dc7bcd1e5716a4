"""What the package declares, installs and sets up, held against what it contains and imports."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nav_monitor_ros

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'nav_monitor_ros'
EXECUTABLES = ('camera', 'monitor', 'nav_monitor', 'safety_stop')
MESSAGES = ('vision_msgs', 'bond')  # that set-up builds where ROS 2 lacks them
# The subpackages in the order in which a frame passes them: each may import from those before it.
SUBPACKAGES = (
    'errors', 'interrupt', 'files', 'perception', 'scores', 'decision', 'views', 'bundle',
    'runtime', 'data', 'fitting', 'evaluation', 'replay', 'inspection', 'tuning', 'benchmark',
    'cluster', 'sim', 'ros', 'cli',
)
# What the other subpackages use where ROS 2 provides it, and do without elsewhere.
USED_WHERE_ROS_IS = {'ament_index_python', 'cv_bridge'}
needs_set_up = pytest.mark.skipif(
    not (ROOT / '.venv/.nav_monitor/ready').exists(),
    reason='this checkout is part of a ROS 2 workspace: `make setup` has not been run')
# Modules whose distribution has another name.
DISTRIBUTIONS = {
    'PIL': 'pillow',
    'backports': 'backports-zstd',
    'cv2': 'opencv-python-headless',
    'faiss': 'faiss-cpu',
    'skimage': 'scikit-image',
    'sklearn': 'scikit-learn',
    'yaml': 'pyyaml',
}
# The rosdep keys of what setup.py requires; safetensors has none.
ROSDEP_KEYS = {
    'jinja2': 'python3-jinja2',
    'markupsafe': 'python3-jinja2',  # which depends on it
    'matplotlib': 'python3-matplotlib',
    'numpy': 'python3-numpy',
    'opencv-python-headless': 'python3-opencv',
    'pyyaml': 'python3-yaml',
    'rich': 'python3-rich',
    'scikit-learn': 'python3-sklearn',
    'scipy': 'python3-scipy',
    'threadpoolctl': 'python3-sklearn',  # which depends on it; it may have no key of its own
    'torch': 'python3-pytorch-pip',
    'torchvision': 'python3-pytorch-pip',
}


def read_manifest():
    catkin_pkg = pytest.importorskip('catkin_pkg.package')
    return catkin_pkg.parse_package(str(ROOT / 'package.xml'))


def call_keywords(function: str) -> dict[str, ast.expr]:
    """Return the keyword arguments of the one call of a function in setup.py."""
    for node in ast.walk(ast.parse((ROOT / 'setup.py').read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == function:
            return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    raise AssertionError(f'setup.py does not call {function}')


def names_of(lines: list[str]) -> set[str]:
    """Return the distributions that requirement lines name, in their normal spelling."""
    stripped = (line.split('#')[0].strip() for line in lines)
    return {
        re.split(r'[<>=!;\[ ]', line)[0].lower().replace('_', '-') for line in stripped if line
    }


def required_names() -> set[str]:
    return names_of(ast.literal_eval(call_keywords('setup')['install_requires']))


def requirements(name: str) -> set[str]:
    return names_of((ROOT / 'requirements' / name).read_text().splitlines())


def imports_of(path: Path) -> Iterator[str]:
    """Yield the full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            if node.module == 'nav_monitor_ros':
                yield from (f'nav_monitor_ros.{alias.name}' for alias in node.names)


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob('*.py'))


def subpackage_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def foreign_modules(paths: list[Path]) -> set[str]:
    """Return the top-level modules that files import from outside the standard library."""
    tops = {name.split('.')[0] for path in paths for name in imports_of(path)}
    return tops - set(sys.stdlib_module_names) - {'nav_monitor_ros'}


# ------------------------------------------------------------------ declarations


def test_name_version_and_license_are_the_same_everywhere():
    manifest = read_manifest()
    manifest.validate()
    keywords = call_keywords('setup')
    assert manifest.package_format == 3
    assert manifest.name == 'nav_monitor_ros'
    assert manifest.version == nav_monitor_ros.__version__
    assert ast.literal_eval(keywords['version']) == nav_monitor_ros.__version__
    assert manifest.licenses == [ast.literal_eval(keywords['license'])] == ['Apache-2.0']
    assert 'Apache License' in (ROOT / 'LICENSE').read_text()[:200]


def test_changelog_says_what_comes_next_or_this_version():
    headings = re.findall(r'^(.+)\n-+$', (ROOT / 'CHANGELOG.rst').read_text(), re.MULTILINE)
    assert headings[0] == 'Forthcoming' or headings[0].startswith(nav_monitor_ros.__version__)


def test_every_imported_python_package_is_required_by_setup_py():
    sources_without_ros = [path for path in sources() if subpackage_of(path) != 'ros']
    declared = required_names() | names_of(
        [line for extra in ast.literal_eval(call_keywords('setup')['extras_require']).values()
         for line in extra]
    )
    missing = {
        module for module in foreign_modules(sources_without_ros) - USED_WHERE_ROS_IS
        if DISTRIBUTIONS.get(module, module).replace('_', '-').lower() not in declared
    }
    assert not missing


def test_every_imported_ros_package_is_a_dependency_of_package_xml():
    declared = {dependency.name for dependency in read_manifest().exec_depends}
    nodes = [path for path in sources() if subpackage_of(path) == 'ros']
    launches = sorted((ROOT / 'launch').glob('*.py'))
    python_names = {*DISTRIBUTIONS, *required_names()}
    missing = {
        module for module in foreign_modules(nodes + launches) - declared
        if module not in python_names
    }
    assert not missing


def test_package_xml_has_a_rosdep_key_for_everything_that_setup_py_requires():
    declared = {dependency.name for dependency in read_manifest().exec_depends}
    assert {ROSDEP_KEYS[name] for name in required_names() - {'safetensors'}} <= declared


def test_set_up_installs_everything_that_setup_py_requires():
    extras = ast.literal_eval(call_keywords('setup')['extras_require'])
    wanted = required_names() | names_of([line for lines in extras.values() for line in lines])
    assert wanted <= requirements('dev.txt')


def test_every_requirement_has_exactly_one_pin():
    lines = (ROOT / 'requirements' / 'constraints.txt').read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith('#')]
    names = [line.split('==')[0] for line in pins]
    assert len(names) == len(set(names))
    assert requirements('dev.txt') | requirements('ros.txt') <= {name.lower() for name in names}
    assert not [line for line in pins if '+' in line], 'a local version is on no index'
    # See the head of the file: these two work only with each other.
    assert {'torch==2.12.1', 'torchvision==0.27.1'} <= set(pins)


# ------------------------------------------------------------------ architecture


def test_only_the_ros_subpackage_imports_ros():
    ros = {dependency.name for dependency in read_manifest().exec_depends} - {
        *USED_WHERE_ROS_IS, *ROSDEP_KEYS.values()}
    offenders = {
        f'{path.relative_to(ROOT)} imports {name}'
        for path in sources() if subpackage_of(path) != 'ros'
        for name in imports_of(path) if name.split('.')[0] in ros
    }
    assert not offenders


def test_subpackages_import_only_from_those_before_them():
    offenders = set()
    for path in sources():
        if path == PACKAGE / '__init__.py':
            continue
        here = SUBPACKAGES.index(subpackage_of(path))
        for name in imports_of(path):
            parts = name.split('.')
            if parts[0] == 'nav_monitor_ros' and parts[1:] and parts[1] in SUBPACKAGES[here + 1:]:
                offenders.add(f'{path.relative_to(ROOT)} imports {name}')
    assert not offenders


def test_every_file_of_the_package_that_is_no_module_is_declared_as_package_data():
    patterns = [
        pattern for literal in [call_keywords('setup')['package_data']]
        for values in literal.values for pattern in ast.literal_eval(values)
    ]
    files = [
        path.relative_to(PACKAGE) for path in PACKAGE.rglob('*')
        if path.is_file() and path.suffix not in ('.py', '.pyc')
    ]
    assert [file for file in files if file.suffix == '.html']
    assert not [file for file in files if not any(file.match(pattern) for pattern in patterns)]


# ------------------------------------------------------------------ what colcon installed


def installed_share() -> Path:
    index = pytest.importorskip('ament_index_python.packages')
    return Path(index.get_package_share_directory('nav_monitor_ros'))


def files_under(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts and not path.name.startswith('.')
    }


@pytest.mark.ros
@pytest.mark.parametrize('folder', ['launch', 'config', 'bundles'])
def test_share_holds_every_file_of(folder):
    there = files_under(installed_share() / folder)
    here = files_under(ROOT / folder)
    assert here
    assert there == here


@pytest.mark.ros
@pytest.mark.parametrize('name', EXECUTABLES)
def test_executables_lie_where_ros2_run_looks(name):
    executable = installed_share().parents[1] / 'lib' / 'nav_monitor_ros' / name
    assert os.access(executable, os.X_OK)
    # The scripts load their entry points by name: each has to be there to be loaded.
    entry_points = ast.literal_eval(call_keywords('setup')['entry_points'])['console_scripts']
    target = dict(entry.split(' = ') for entry in entry_points)[name]
    module, function = target.split(':')
    tree = ast.parse((ROOT / (module.replace('.', '/') + '.py')).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@needs_set_up
@pytest.mark.ros
def test_command_line_is_on_the_path():
    done = subprocess.run(['nav_monitor', '--help'], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert 'fit' in done.stdout


@pytest.mark.ros
def test_vision_msgs_have_the_published_fields_in_the_published_order():
    messages = pytest.importorskip('vision_msgs.msg')
    fields = {
        name: list(getattr(messages, name).get_fields_and_field_types().items())
        for name in ('ObjectHypothesis', 'Classification', 'VisionClass', 'LabelInfo')
    }
    assert fields == {
        'ObjectHypothesis': [('class_id', 'string'), ('score', 'double')],
        'Classification': [
            ('header', 'std_msgs/Header'),
            ('results', 'sequence<vision_msgs/ObjectHypothesis>'),
        ],
        'VisionClass': [('class_id', 'uint16'), ('class_name', 'string')],
        'LabelInfo': [
            ('header', 'std_msgs/Header'),
            ('class_map', 'sequence<vision_msgs/VisionClass>'),
            ('threshold', 'float'),
        ],
    }


@pytest.mark.ros
def test_bond_has_the_published_fields_in_the_published_order():
    messages = pytest.importorskip('bond.msg')
    assert list(messages.Status.get_fields_and_field_types().items()) == [
        ('header', 'std_msgs/Header'), ('id', 'string'), ('instance_id', 'string'),
        ('active', 'boolean'), ('heartbeat_timeout', 'float'), ('heartbeat_period', 'float'),
    ]
    constants = messages.Constants
    assert constants.DISABLE_HEARTBEAT_TIMEOUT_PARAM == '/bond_disable_heartbeat_timeout'
    assert [
        constants.DEAD_PUBLISH_PERIOD, constants.DEFAULT_CONNECT_TIMEOUT,
        constants.DEFAULT_HEARTBEAT_TIMEOUT, constants.DEFAULT_DISCONNECT_TIMEOUT,
        constants.DEFAULT_HEARTBEAT_PERIOD,
    ] == pytest.approx([0.05, 10.0, 4.0, 2.0, 1.0])


# ------------------------------------------------------------------ set-up


@pytest.mark.skipif(
    'NAV_MONITOR_OLDEST' not in os.environ, reason='only `make test-oldest` sets the oldest up')
def test_oldest_run_uses_the_oldest_numpy_and_opencv():
    import cv2
    import numpy as np

    lines = (ROOT / 'requirements' / 'oldest.txt').read_text().splitlines()
    oldest = dict(line.split('==') for line in lines if '==' in line)
    assert np.__version__ == oldest['numpy']
    # OpenCV's own version has three parts, its wheel's a fourth.
    assert oldest['opencv-python-headless'].startswith(f'{cv2.__version__}.')


def bare_checkout(folder: Path) -> Path:
    """Copy what set-up reads into a folder where nothing has been set up."""
    for name in ('env.sh', 'Makefile', 'tools/setup.sh'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in MESSAGES:
        shutil.copytree(ROOT / 'tools' / name, folder / 'tools' / name)
    shutil.copytree(ROOT / 'requirements', folder / 'requirements')
    return folder


ESSENTIAL = (
    'awk bash c++ cat cc cut date dirname env find flock grep id make mkdir mv nproc paste '
    'printenv rm sed sha256sum sort tail tee touch tr xargs'
)


def bare_path(folder: Path, *, python: str, lacking: tuple[str, ...] = ()) -> str:
    """Return a PATH with Debian's essential commands, a stand-in for python3, and no more."""
    folder.mkdir()
    for name in set(ESSENTIAL.split()) - set(lacking):
        where = shutil.which(name)
        if where:
            (folder / name).symlink_to(where)
    if python:
        (folder / 'python3').write_text(f'#!/bin/bash\n{python}\n')
        (folder / 'python3').chmod(0o755)
    return str(folder)


REAL_PYTHON = f'exec {getattr(sys, "_base_executable", sys.executable)} "$@"'


@needs_set_up
@pytest.mark.parametrize(
    ('python', 'lacking', 'message'),
    [
        ('', (), 'no Python 3.10 to 3.13 found'),
        ('exit 1', (), 'no Python 3.10 to 3.13 found'),
        (f'case "$*" in *ensurepip*) exit 1;; esac; {REAL_PYTHON}', (), 'python3-venv'),
        (REAL_PYTHON, ('cc', 'c++'), 'needs a C++ compiler'),
    ],
    ids=['no Python', 'another Python', 'no venv module', 'no compiler'],
)
def test_what_is_missing_is_said_in_one_line_with_the_remedy(tmp_path, python, lacking, message):
    checkout = bare_checkout(tmp_path / 'checkout')
    done = subprocess.run(
        ['bash', str(checkout / 'tools/setup.sh')], capture_output=True, text=True, timeout=60,
        env={'PATH': bare_path(tmp_path / 'bin', python=python, lacking=lacking),
             'NAV_MONITOR_ROS': 'wheels'},
    )
    assert done.returncode == 1
    assert done.stdout == ''
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout / '.venv').exists()


@needs_set_up
def test_no_network_is_said_in_one_line_with_the_remedy(tmp_path):
    checkout = bare_checkout(tmp_path / 'checkout')
    done = subprocess.run(
        ['bash', str(checkout / 'tools/setup.sh')], capture_output=True, text=True, timeout=120,
        # Port 9 discards: nobody listens there.
        env={'PATH': bare_path(tmp_path / 'bin', python=REAL_PYTHON), 'PIP_RETRIES': '1',
             'PIP_INDEX_URL': 'http://127.0.0.1:9/simple', 'PIP_CONFIG_FILE': os.devnull,
             'NAV_MONITOR_ROS': 'wheels'},
    )
    assert done.returncode == 1
    assert 'no network' in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize('shell', ['bash', 'zsh'])
def test_environment_says_that_set_up_has_not_been_run(tmp_path, shell):
    if not shutil.which(shell):
        pytest.skip(f'no {shell} here')
    checkout = bare_checkout(tmp_path)
    done = subprocess.run(
        [shell, '-c', f'. {checkout}/env.sh'], capture_output=True, text=True, timeout=60, cwd='/')
    assert done.returncode == 1
    assert done.stderr == (
        f"env.sh: this checkout is not set up yet: run 'make -C {checkout} setup'\n")


@needs_set_up
@pytest.mark.ros
@pytest.mark.parametrize('shell', ['bash', 'zsh'])
def test_environment_works_from_any_directory_and_twice(shell):
    if not shutil.which(shell):
        pytest.skip(f'no {shell} here')
    script = (
        f'set -eu; . {ROOT}/env.sh; . {ROOT}/env.sh; command -v python nav_monitor; '
        'command -v monitor camera safety_stop; '
        'echo "$AMENT_PREFIX_PATH"; echo "${FASTDDS_DEFAULT_PROFILES_FILE-unset}"; '
        'python -c "import rclpy, vision_msgs.msg, bond.msg"'
    )
    done = subprocess.run(
        [shell, '-c', script], capture_output=True, text=True, timeout=120, cwd='/',
        env={'PATH': os.defpath, 'HOME': os.environ.get('HOME', '/')},
    )
    assert done.returncode == 0, done.stderr
    python, command, *nodes, prefixes, profile = done.stdout.splitlines()
    executables = ROOT / '.ros/install/nav_monitor_ros/lib/nav_monitor_ros'
    assert nodes == [str(executables / name) for name in ('monitor', 'camera', 'safety_stop')]
    assert python == str(ROOT / '.venv/bin/python')
    assert command == str(ROOT / '.venv/bin/nav_monitor')
    assert prefixes.split(':').count(str(ROOT / '.venv')) == 1
    assert prefixes.split(':')[0] == str(ROOT / '.ros/install/nav_monitor_ros')
    assert profile == 'unset'
