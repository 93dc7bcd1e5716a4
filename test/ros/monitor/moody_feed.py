"""Images for a monitor of the moody network, and calls of the monitor's services."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path

import moody
import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.qos import (
    QoSProfile,
    ReliabilityPolicy,
)
from ros_harness import rgb_message, stamp_ns
from sensor_msgs.msg import Image

START = 60.0  # longest time for a process to start on a busy machine, seconds
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class Feed:
    """Camera in the test's process, at 30 Hz, with images of the moody network's classes."""

    def __init__(self, graph, qos=RELIABLE):
        self._publisher = graph.node.create_publisher(Image, 'image', qos)
        pixels, _ = moody.images(3, 500)
        self._normal = itertools.cycle(pixels)
        self._make = self.normal
        self.stamps = []
        self._timer = graph.node.create_timer(1 / 30, self._tick)

    def pixels(self):
        return np.repeat(next(self._normal)[..., None], 3, axis=2)

    def normal(self, stamp):
        return rgb_message(self.pixels(), stamp)

    def play(self, make):
        """Publish the messages that ``make(stamp)`` returns; none if ``make`` is None."""
        self._make = make

    def play_plain(self, color):
        """Publish uniform images of one gray level."""
        self.play(lambda stamp: rgb_message(np.full((8, 8, 3), color, np.uint8), stamp))

    def _tick(self):
        message = self._make(time.time_ns()) if self._make else None
        if message is not None:
            self.stamps.append(stamp_ns(message.header))
            self._publisher.publish(message)


def moody_arguments(bundle, **parameters):
    given = {
        'bundle': str(bundle), 'trusted_packages': ['moody'], 'frozen_timeout': 0,
        'blank_contrast': 0, **parameters
    }
    return [
        argument
        for name, value in given.items()
        for argument in ('-p', f'{name}:={json.dumps(value)}')  # JSON is valid YAML
    ]


def python_path():
    return {'PYTHONPATH': f'{Path(__file__).parents[2]}:{os.environ.get("PYTHONPATH", "")}'}


def set_parameters(graph, **wanted):
    kinds = {bool: 1, int: 2, float: 3, str: 4, list: 7}
    fields = {1: 'bool_value', 2: 'integer_value', 3: 'double_value', 4: 'string_value',
              7: 'integer_array_value'}
    parameters = []
    for name, value in wanted.items():
        kind = kinds[type(value)]
        parameters.append(
            Parameter(name=name, value=ParameterValue(type=kind, **{fields[kind]: value}))
        )
    request = SetParametersAtomically.Request(parameters=parameters)
    service = '/nav_monitor/set_parameters_atomically'
    return graph.call(SetParametersAtomically, service, request).result


def get_parameter(graph, name):
    request = GetParameters.Request(names=[name])
    return graph.call(GetParameters, '/nav_monitor/get_parameters', request).values[0]


def change_state(graph, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return graph.call(ChangeState, '/nav_monitor/change_state', request, START).success


def get_state(graph):
    answer = graph.call(GetState, '/nav_monitor/get_state', GetState.Request())
    return answer.current_state.id
