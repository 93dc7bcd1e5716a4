"""`nav_monitor replay --params`: the node's parameter file, read as the node reads it."""

from __future__ import annotations

import pytest
import yaml
from replayed import refused, table_of


def test_the_nodes_parameters_are_taken_from_its_file(judge, recording, tmp_path):
    parameters = tmp_path / 'p.yaml'
    parameters.write_text(yaml.safe_dump({'/**': {'ros__parameters': {
        'score': 'pattern', 'extra_scores': ['energy'], 'exit_count': 12, 'wheel_radius': 0.1}}}))
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', parameters)
    assert {name for name in rows[0] if name.startswith('score/')} == {
        'score/pattern', 'score/energy'}
    assert [row['p_value'] == row['p_value/pattern'] for row in rows] == [True] * 40
    assert [row['reason'] for row in rows[:11]] == ['warming_up'] * 11
    assert rows[11]['reason'] == 'in_distribution'


def write_parameters(tmp_path, text):
    path = tmp_path / 'params.yaml'
    path.write_text(text)
    return path


def decided(rows):
    """Return the score that decided, and the first row that was trusted."""
    names = [name for name in rows[0] if name.startswith('score/')]
    return names, [row['reason'] for row in rows].index('in_distribution')


def test_other_nodes_parameters_do_not_count(judge, recording, tmp_path):
    """A file for several nodes, of which another one has a region and a device of its own."""
    path = write_parameters(tmp_path, """
nav_monitor:
  ros__parameters: {score: pattern, exit_count: 12}
segmenter:
  ros__parameters: {roi: [0, 0, 3, 3], device: cuda:7, score: nonsense, exit_count: 2}
""")
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', path)
    assert decided(rows) == (['score/pattern'], 11)


@pytest.mark.parametrize('name', ['/robot/nav_monitor', 'robot/nav_monitor', '/robot/**', '/**'])
def test_a_namespaced_nodes_parameters_count(judge, recording, tmp_path, name):
    path = write_parameters(tmp_path, f"""
{name}:
  ros__parameters: {{score: pattern, exit_count: 12}}
/robot/camera:
  ros__parameters: {{exit_count: 2}}
""")
    node = ['--node', '/robot/nav_monitor'] if name == '/robot/**' else []
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', path, *node)
    assert decided(rows) == (['score/pattern'], 11)


def test_nested_namespaces_and_later_blocks_count(judge, recording, tmp_path):
    path = write_parameters(tmp_path, """
/**:
  ros__parameters: {score: pattern, exit_count: 3}
robot:
  nav_monitor:
    ros__parameters: {exit_count: 12}
""")
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', path)
    assert decided(rows) == (['score/pattern'], 11)
    root = ['--params', path, '--node', 'nav_monitor']
    other = table_of(judge, recording, tmp_path / 'o.csv', *root)
    assert decided(other) == (['score/pattern'], 2)


def test_numbers_and_empty_lists_are_those_of_the_node(judge, recording, tmp_path, capsys):
    path = write_parameters(tmp_path, """
nav_monitor:
  ros__parameters:
    evidence_level: 1e-1
    image_timeout: 5e-1
    exit_count: 0x0C
    extra_scores: []
    trusted_packages: []
    roi: []
    latch: n
""")
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', path)
    assert decided(rows)[1] == 11
    assert 'warning' not in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('/a/nav_monitor:\n  ros__parameters: {latch: true}\n'
         '/b/nav_monitor:\n  ros__parameters: {latch: true}\n',
         '/a/nav_monitor, /b/nav_monitor; choose one with --node'),
        ('front_monitor:\n  ros__parameters: {latch: true}\n',
         'has no parameters for /nav_monitor, only for: front_monitor; name the monitor with '
         '--node'),
        ('/**:\n  ros__parameters: {exit_count: 1e1}\n', 'exit_count is 10.0, a float'),
        ('/**:\n  ros__parameters: {exit_count: []}\n', 'exit_count is [], a list'),
        ('/**:\n  ros__parameters: {roi: [0, 0, 1.5, 2]}\n', 'values of different types'),
        ('/**:\n  ros__parameters:\n', 'must be a mapping of names to values'),
    ],
)
def test_a_parameter_file_that_cannot_be_used_is_refused(
    judge, recording, tmp_path, capsys, text, said
):
    path = write_parameters(tmp_path, text)
    assert said in refused(capsys, judge(recording, '--params', path))


def test_a_node_that_is_named_without_a_file_is_refused(judge, recording, capsys):
    assert 'give --params' in refused(capsys, judge(recording, '--node', '/robot/nav_monitor'))


def test_misspelt_parameters_are_told_once_with_the_nearest_one(
    judge, recording, tmp_path, capsys
):
    path = write_parameters(tmp_path, """
/**:
  ros__parameters:
    use_sim_time: true
    qos_overrides: {/image: {subscription: {depth: 1}}}
    evidence_levle: 0.1
    exit_cuont: 9
    cameras: [front]
    front: {roi: [0, 0, 2, 2], exit_cout: 3}
""")
    judge(recording, '--params', path, '--csv', tmp_path / 't.csv')
    warnings = [line for line in capsys.readouterr().err.splitlines() if 'warning' in line]
    assert warnings == [
        'nav_monitor replay: warning: ' + text for text in (
            "parameter 'evidence_levle' is unknown and has no effect; did you mean "
            'evidence_level?',
            "parameter 'exit_cuont' is unknown and has no effect; did you mean exit_count?",
            "parameter 'front.exit_cout' is unknown and has no effect; did you mean "
            'front.exit_count?',
            'parameter front.roi is not used: a replay judges every topic with the parameters '
            'that all cameras share',
        )
    ]
