"""Functions that load launch files as modules, with stubs if there is no launch system."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).parents[2] / 'launch'


class _Typed(NamedTuple):
    """Stub of launch_ros' ParameterValue."""

    given: object
    value_type: type

    def evaluate(self, _context):
        return self.value_type(self.given)


class _Action:
    """Stub of all other names that the launch files import."""

    def __init__(self, *positional, **named):
        self.positional, self.named = positional, named


def _stand_ins() -> dict[str, types.ModuleType]:
    """Return stubs of launch and launch_ros, which are not on any package index."""
    names = {
        'launch': ('LaunchContext', 'LaunchDescription', 'LaunchDescriptionEntity'),
        'launch.actions': (
            'DeclareLaunchArgument', 'EmitEvent', 'ExecuteProcess', 'IncludeLaunchDescription',
            'LogInfo', 'OpaqueFunction', 'RegisterEventHandler',
        ),
        'launch.event_handlers': ('OnProcessExit', 'OnProcessIO'),
        'launch.events': ('Shutdown', 'matches_action'),
        'launch.events.process': ('ProcessExited', 'ProcessIO', 'ShutdownProcess'),
        'launch.launch_description_sources': ('PythonLaunchDescriptionSource',),
        'launch.substitutions': ('LaunchConfiguration',),
        'launch_ros': (),
        'launch_ros.actions': ('Node',),
        'launch_ros.parameter_descriptions': (),
    }
    modules = {name: types.ModuleType(name) for name in names}
    for name, attributes in names.items():
        for attribute in attributes:
            setattr(modules[name], attribute, type(attribute, (_Action,), {}))
    modules['launch_ros.parameter_descriptions'].ParameterValue = _Typed
    return modules


def load_launch_file(name, monkeypatch):
    """Return ``NAME.launch.py`` as a module, with the real launch system if there is one."""
    pytest.importorskip('ament_index_python')
    # If the stubs are already installed, find_spec would fail, since they have no spec.
    if 'launch_ros' not in sys.modules and importlib.util.find_spec('launch_ros') is None:
        for module_name, module in _stand_ins().items():
            monkeypatch.setitem(sys.modules, module_name, module)
    spec = importlib.util.spec_from_file_location(
        'launch_file', FOLDER / f'{name}.launch.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # not added to sys.modules, as in launch
    return module


def overrides(launch_file, given):
    """Return the parameter files, and the parameters that take precedence over them."""
    parameters = launch_file.parameters(given)
    files = [entry for entry in parameters if isinstance(entry, str)]
    values = {}
    for entry in parameters:
        if not isinstance(entry, str):
            values.update({name: value.evaluate(None) for name, value in entry.items()})
    return files, values
