"""What `ros2 launch` reads to start safety_stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch_loading import load_launch_file, overrides

pytestmark = pytest.mark.once

SAFETY_STOP_NAMES = (
    'params_file', 'namespace', 'cmd_vel_in', 'cmd_vel_out', 'stamped', 'respawn', 'use_sim_time',
    'log_level',
)


@pytest.fixture
def gate_launch(monkeypatch):
    return load_launch_file('safety_stop', monkeypatch)


@pytest.fixture
def gate_given(gate_launch):
    return {argument.name: argument.default for argument in gate_launch.ARGUMENTS}


@pytest.mark.ros
def test_the_gates_arguments_are_those_promised_each_with_a_description(gate_launch):
    assert tuple(argument.name for argument in gate_launch.ARGUMENTS) == SAFETY_STOP_NAMES
    for argument in gate_launch.ARGUMENTS:
        assert len(argument.description) > 10
        assert not argument.choices or argument.default in argument.choices


@pytest.mark.ros
def test_without_arguments_the_gate_has_its_file_and_its_names(gate_launch, gate_given):
    [file], values = overrides(gate_launch, gate_given)
    assert Path(file).parts[-3:] == ('nav_monitor_ros', 'config', 'safety_stop.yaml')
    assert values == {}
    assert gate_launch.remappings(gate_given) == [
        ('cmd_vel_in', 'cmd_vel_in'), ('cmd_vel', 'cmd_vel')]


@pytest.mark.ros
def test_the_gates_arguments_become_parameters_and_names(gate_launch, gate_given):
    gate_given.update(
        params_file='', stamped='True', use_sim_time='false', cmd_vel_in='cmd_vel_smoothed',
        cmd_vel_out='/base/cmd_vel',
    )
    assert overrides(gate_launch, gate_given) == ([], {'stamped': True, 'use_sim_time': False})
    assert gate_launch.remappings(gate_given) == [
        ('cmd_vel_in', 'cmd_vel_smoothed'), ('cmd_vel', '/base/cmd_vel')]


@pytest.mark.ros
@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (
            {'cmd_vel_in': 'cmd_vel', 'cmd_vel_out': ''},
            'cmd_vel_in and cmd_vel_out are both cmd_vel',
        ),
        ({'params_file': 'typo.yaml'}, 'params_file: there is no file typo.yaml'),
    ],
)
def test_what_would_not_stop_the_robot_stops_the_launch(gate_launch, gate_given, change, said):
    gate_given.update(change)
    read = gate_launch.parameters if 'params_file' in change else gate_launch.remappings
    with pytest.raises(RuntimeError, match=f'^{said}'):
        read(gate_given)
