"""The files in config: parameters, twist_mux, RViz, Foxglove and the profile of Fast DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from nav_monitor_ros.ros.safety_stop import parameters
from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS, check_all
from nav_monitor_ros.runtime.parameter_definition import yaml_file

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]


def test_parameter_file_is_the_table_at_its_defaults_for_any_node_name():
    text = (ROOT / 'config' / 'monitor.yaml').read_text()
    assert text == yaml_file(PARAMETERS, 'nav_monitor', 'runtime/monitor_parameters')
    defaults = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert yaml.safe_load(text) == {'/**': {'ros__parameters': defaults}}
    assert check_all(defaults) == defaults


def test_the_gates_parameter_file_is_its_table_at_its_defaults():
    text = (ROOT / 'config' / 'safety_stop.yaml').read_text()
    table = parameters.SAFETY_STOP_PARAMETERS
    assert text == yaml_file(table, 'safety_stop', 'ros/safety_stop/parameters')
    defaults = {parameter.name: parameter.default for parameter in table}
    assert yaml.safe_load(text) == {'/**': {'ros__parameters': defaults}}
    assert parameters.check_all(defaults) == defaults


def test_twist_mux_gets_a_lock_that_silence_closes_and_that_holds_every_topic_back():
    read = yaml.safe_load((ROOT / 'config' / 'twist_mux.yaml').read_text())
    parameters = read['/**']['ros__parameters']
    lock = parameters['locks']['ood_alert']
    assert lock['topic'] == 'ood_alert'
    # With 0, age would never be looked at; a whole number ends twist_mux.
    assert type(lock['timeout']) is float and lock['timeout'] > 0
    assert lock['priority'] == 255
    for topic in parameters['topics'].values():
        assert type(topic['timeout']) is float and topic['timeout'] > 0
        assert 0 < topic['priority'] < lock['priority']


# ------------------------------------------------------------------ RViz


def rviz_config() -> dict:
    return yaml.safe_load((ROOT / 'config' / 'monitor.rviz').read_text())


def rviz_displays() -> list[dict]:
    return rviz_config()['Visualization Manager']['Displays']


def rviz_topics() -> list[str]:
    return [display['Topic']['Value'] for display in rviz_displays()]


def test_rviz_shows_the_pictures_and_the_volume_and_offers_the_camera():
    displays = {d['Name']: d for d in rviz_displays()}
    assert {name: d['Class'].rpartition('/')[2] for name, d in displays.items()} == {
        'Overlay': 'Image', 'Activations': 'Image', 'Camera': 'Image',
        'Activation volume': 'PointCloud2',
    }
    assert {name: (d['Enabled'], d['Topic']['Value']) for name, d in displays.items()} == {
        'Overlay': (True, '/nav_monitor/overlay'),
        'Activations': (True, '/nav_monitor/activations'),
        'Camera': (False, '/camera/image_raw'),
        'Activation volume': (True, '/nav_monitor/activation_volume'),
    }


def test_rviz_asks_for_a_quality_of_service_that_is_offered():
    for display in rviz_displays():
        topic = display['Topic']
        assert topic['Durability Policy'] == 'Volatile'
        assert (topic['History Policy'], topic['Depth']) == ('Keep Last', 1)
        # The node's pictures are reliable; a camera may offer no more than best effort.
        wanted = 'Best Effort' if display['Name'] == 'Camera' else 'Reliable'
        assert topic['Reliability Policy'] == wanted


def test_every_panel_has_its_place_in_the_window():
    config = rviz_config()
    images = [d for d in rviz_displays() if d['Class'].endswith('/Image')]
    names = [panel['Name'] for panel in (*config['Panels'], *images)]
    state = bytes.fromhex(config['Window Geometry']['QMainWindow State'])
    for name in names:
        assert name.encode('utf-16-be') in state  # as Qt writes names
        assert config['Window Geometry'][name] == {'collapsed': False}


# ------------------------------------------------------------------ Foxglove


def test_the_foxglove_layout_shows_topics_that_the_node_has():
    layout = json.loads((ROOT / 'config' / 'monitor.foxglove.json').read_text())
    panels = layout['configById']

    def placed(part):
        return [part] if isinstance(part, str) else placed(part['first']) + placed(part['second'])

    assert sorted(placed(layout['layout'])) == sorted(panels)
    text = json.dumps(panels)
    for topic in ('/nav_monitor/overlay', '/nav_monitor/activations',
                  '/nav_monitor/activation_volume', '/nav_monitor/ood_score.data',
                  '/ood_alert.data'):
        assert f'"{topic}"' in text


# ------------------------------------------------------------------ Fast DDS

PROFILE = ROOT / 'config' / 'fastdds.xml'
SEGMENT = 32 * 2**20  # bytes
# Prints the size of the largest shared-memory segment that this process has from Fast DDS.
OWN_SEGMENT = """
import os, rclpy
rclpy.init()
node = rclpy.create_node('profile')
with open('/proc/self/maps') as maps:
    paths = {line.split()[-1] for line in maps if '/dev/shm/fast' in line}
print(max((os.stat(path).st_size for path in paths if os.path.exists(path)), default=0))
node.destroy_node()
rclpy.shutdown()
"""


def test_profile_uses_the_transports_that_it_describes_and_no_others():
    tree = ElementTree.fromstring(PROFILE.read_text())
    ns = {'d': 'http://www.eprosima.com'}
    described = {
        transport.findtext('d:transport_id', namespaces=ns): transport
        for transport in tree.findall('.//d:transport_descriptor', ns)
    }
    used = [element.text for element in tree.findall('.//d:userTransports/d:transport_id', ns)]
    assert used == list(described)
    kinds = {t.findtext('d:type', namespaces=ns): t for t in described.values()}
    assert set(kinds) == {'SHM', 'UDPv4'}
    assert int(kinds['SHM'].findtext('d:segment_size', namespaces=ns)) == SEGMENT
    [participant] = tree.findall('.//d:participant', ns)
    assert participant.get('is_default_profile') == 'true'
    assert participant.findtext('.//d:useBuiltinTransports', namespaces=ns) == 'false'


def run_with_profile(profile: Path | None) -> subprocess.CompletedProcess:
    names = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
    env = {name: value for name, value in os.environ.items() if name not in names}
    if profile:
        env.update(dict.fromkeys(names, str(profile)))
    return subprocess.run(
        [sys.executable, '-c', OWN_SEGMENT], capture_output=True, text=True, timeout=120,
        env=env,
    )


@pytest.mark.ros
@pytest.mark.skipif(
    os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp') != 'rmw_fastrtps_cpp',
    reason='another middleware')
def test_profile_gives_a_process_the_large_segment():
    pytest.importorskip('rclpy')
    default = run_with_profile(None)
    assert default.returncode == 0, default.stderr
    assert 0 < int(default.stdout) < SEGMENT / 4
    profiled = run_with_profile(PROFILE)
    assert profiled.returncode == 0, profiled.stderr
    assert 'XMLPARSER' not in profiled.stderr  # where Fast DDS says what it does not understand
    assert int(profiled.stdout) >= SEGMENT
