"""The SROS 2 policy allows what the running nodes have, all of it, and nothing else."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from rclpy.node import NodeNameNonExistentError
from ros_harness import Graph  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0
CONFIG = Path(__file__).parents[2] / 'config'
POLICY = CONFIG / 'sros2' / 'policy.xml'
FOUR_CAMERAS = CONFIG / 'sros2' / 'four_cameras.xml'
NODES = ('nav_monitor', 'camera', 'safety_stop')
# (element, attribute) of the policy -> what rclpy's nodes can be asked for it
ASKED = {
    ('topics', 'publish'): 'get_publisher_names_and_types_by_node',
    ('topics', 'subscribe'): 'get_subscriber_names_and_types_by_node',
    ('services', 'reply'): 'get_service_names_and_types_by_node',
    ('services', 'request'): 'get_client_names_and_types_by_node',
}


def allowed(policy=POLICY):
    """Return what a policy allows: (node, element, attribute) -> absolute names."""
    rules = {}
    for enclave in ElementTree.parse(policy).getroot().iter('enclave'):
        for profile in enclave.iter('profile'):
            assert enclave.get('path') == f'/{profile.get("node")}' and profile.get('ns') == '/'
            for part in profile:
                (attribute,) = part.keys()
                assert part.get(attribute) == 'ALLOW'
                key = (profile.get('node'), part.tag, attribute)
                assert key not in rules, f'{key} stands twice'
                names = [
                    entry.text if entry.text.startswith('/') else f'/{entry.text}'
                    for entry in part
                ]
                assert len(set(names)) == len(names)
                rules[key] = set(names)
    return rules


def used(graph, nodes=NODES):
    """Return what the nodes have in the graph, under the same keys."""
    return {
        (node, element, attribute): _names(getattr(graph.node, question), node)
        for node in nodes for (element, attribute), question in ASKED.items()
    }


def _names(ask, node):
    """Return the names that a node has; none while discovery has lost sight of the node."""
    try:
        return {name for name, _ in ask(node, '/')}
    except NodeNameNonExistentError:
        return set()


@pytest.fixture(scope='module')
def seen(tmp_path_factory):
    """Run all nodes, with raw and with compressed images, with and without simulated time."""
    together = {}
    for sim_time, transport in (('false', 'raw'), ('true', 'compressed')):
        graph = Graph(tmp_path_factory.mktemp('logs'))
        try:
            common = ('-p', f'use_sim_time:={sim_time}', '-p', 'stamp_tolerance:=0.0')
            graph.start_monitor('-p', 'bundle:=digits', '-p', f'image_transport:={transport}',
                                *common)
            graph.start_camera('sample:digits', '-p', f'image_transport:={transport}', *common[:2])
            graph.start('safety_stop', *common[:2])
            graph.wait_alert(False, START)
            graph.wait(
                lambda graph=graph: {'/camera', '/safety_stop'} <= {
                    f'{ns}{name}' for name, ns in graph.node.get_node_names_and_namespaces()
                }, START, 'all nodes',
            )
            # Discovery tells of a node before it has told of everything that the node has.
            graph.wait(
                lambda graph=graph: all(
                    f'/{node}/set_parameters_atomically' in used(graph)[node, 'services', 'reply']
                    for node in NODES
                ) and '/safety_stop/reset' in used(graph)['safety_stop', 'services', 'reply'],
                START, 'all services',
            )
            for key, names in used(graph).items():
                together.setdefault(key, set()).update(names)
        finally:
            graph.stop()
    return together


def test_everything_that_the_nodes_have_is_allowed(seen):
    rules = allowed()
    for key, names in seen.items():
        assert names <= rules.get(key, set()), (key, names - rules.get(key, set()))


def test_nothing_is_allowed_that_no_node_has(seen):
    have = set().union(*seen.values())
    for key, names in allowed().items():
        # Nodes describe their types from Jazzy on.
        newer = {n for n in names if n.endswith('/get_type_description') and n not in have}
        names = names - newer
        assert names <= seen[key], (key, names - seen[key])


def test_a_node_with_four_cameras_has_what_its_policy_allows(tmp_path):
    rules = {key: names for key, names in allowed(FOUR_CAMERAS).items() if names}
    assert {node for node, *_ in rules} == {'nav_monitor'}
    graph = Graph(tmp_path)
    try:
        graph.start('monitor', '--params-file', str(CONFIG / 'four_cameras.yaml'), '-p',
                    'bundle:=digits', '-p', 'use_sim_time:=true')

        def differing():
            found = {key: names for key, names in used(graph, ['nav_monitor']).items() if names}
            # Nodes describe their types from Jazzy on.
            return {
                key: names for key in {*rules, *found}
                if (names := {
                    name for name in rules.get(key, set()) ^ found.get(key, set())
                    if not name.endswith('/get_type_description')
                })
            }

        graph.wait(
            lambda: 'nav_monitor' in graph.node.get_node_names(), START, 'the node'
        )
        try:
            graph.wait(lambda: not differing(), START, 'what the policy allows')
        except AssertionError:
            raise AssertionError(f'{differing()}\n{graph.describe()}') from None
    finally:
        graph.stop()


def test_only_one_node_may_say_the_alert_the_images_and_the_velocities():
    for name, node in (('/ood_alert', 'nav_monitor'), ('/image', 'camera'),
                       ('/cmd_vel', 'safety_stop')):
        speakers = [who for (who, _, attribute), names in allowed().items()
                    if attribute == 'publish' and name in names]
        assert speakers == [node]


@pytest.mark.parametrize('policy', [POLICY, FOUR_CAMERAS], ids=lambda path: path.stem)
def test_the_file_is_a_policy_of_the_version_that_sros2_reads(policy):
    root = ElementTree.parse(policy).getroot()
    assert root.tag == 'policy' and root.get('version') == '0.2.0'
    known = {
        'policy': {'enclaves'}, 'enclaves': {'enclave'}, 'enclave': {'profiles'},
        'profiles': {'profile'}, 'profile': {'topics', 'services'}, 'topics': {'topic'},
        'services': {'service'}, 'topic': set(), 'service': set(),
    }
    attributes = {
        'enclave': {'path'}, 'profile': {'ns', 'node'}, 'policy': {'version'},
    }
    for element in root.iter():
        assert {child.tag for child in element} <= known[element.tag]
        if element.tag in ('topics', 'services'):
            assert set(element.keys()) <= {a for tag, a in ASKED if tag == element.tag}
        else:
            assert set(element.keys()) == attributes.get(element.tag, set())
