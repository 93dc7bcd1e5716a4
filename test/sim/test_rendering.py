"""Rendering: geometry of the camera, what is visible, and repeatability. Needs MuJoCo."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from nav_monitor_ros.sim.camera.rendering import CAMERA, Renderer
from nav_monitor_ros.sim.robot.kinematics import Pose
from nav_monitor_ros.sim.world.mjcf import UNKNOWN as UNKNOWN_LABEL
from nav_monitor_ros.sim.world.mjcf import WALL, compile_world
from nav_monitor_ros.sim.world.shapes import Part, Thing
from nav_monitor_ros.sim.world.textures import Surface
from nav_monitor_ros.sim.world.unknown_objects import UNKNOWN
from nav_monitor_ros.sim.world.world import draw_world

pytest.importorskip('mujoco')
RED = Surface('plain', ((1.0, 0.0, 0.0),) * 3, 9)


@pytest.fixture(scope='module')
def world():
    """Return a short world without objects in the way."""
    return replace(draw_world(2, pieces=1), things=())


@pytest.fixture(scope='module')
def start(world):
    ahead = world.path[5] - world.path[0]
    return Pose(*world.path[0], math.atan2(ahead[1], ahead[0]))


def before(start, distance, left=0.0):
    """Return a place at a distance before the camera."""
    away = CAMERA.ahead + distance
    cos, sin = math.cos(start.yaw), math.sin(start.yaw)
    return {'x': start.x + away * cos - left * sin, 'y': start.y + away * sin + left * cos,
            'yaw': start.yaw}


def test_a_board_covers_the_pixels_that_geometry_says(world, start):
    # 0.6 m wide, 0.4 m high, 2 m away, with its middle at the height of the camera.
    board = Thing('ball', (Part('box', (0.001, 0.3, 0.2), (0, 0, CAMERA.above_floor), RED),),
                  **before(start, 2.0))
    with Renderer(compile_world(world.with_unknown(board))) as renderer:
        labels = renderer.labels(start)
        geoms = renderer.geoms(start)
    focal = 160 / math.tan(math.radians(40))
    pixels = (0.6 * focal / 2) * (0.4 * focal / 2)
    assert labels[UNKNOWN_LABEL] * CAMERA.width * CAMERA.height == pytest.approx(pixels, rel=0.03)
    assert geoms.shape == (CAMERA.height, CAMERA.width)
    assert sum(labels.values()) == pytest.approx(1.0, abs=0.01)


def test_the_field_of_view_ends_at_forty_degrees(world, start):
    edge = 1.5 * math.tan(math.radians(40))
    shares = []
    for left in (edge - 0.05, edge + 0.05):
        post = Thing('ball', (Part('cylinder', (0.01, 0.2), (0, 0, 0.3), RED),),
                     **before(start, 1.5, left))
        with Renderer(compile_world(replace(world, unknown=post, plan=world.plan))) as renderer:
            shares.append(renderer.labels(start)[UNKNOWN_LABEL])
    # The corridor is narrower than the view: the wall must not hide the post.
    assert edge + 0.05 < world.plan.widths[0] / 2 + 0.4
    assert shares[0] > 0 and shares[1] == 0


def test_what_is_hidden_is_not_visible(world, start):
    box = Thing('box', (Part('box', (0.1, 0.5, 0.6), (0, 0, 0.6), RED),), **before(start, 1.5))
    ball = Thing('ball', (Part('sphere', (0.2,), (0, 0, 0.2), RED),), **before(start, 2.5))
    shares = []
    for things in ((), (box,)):
        with Renderer(compile_world(replace(world, things=things, unknown=ball))) as renderer:
            shares.append(renderer.labels(start))
    assert shares[0][UNKNOWN_LABEL] > 0.004 and shares[1][UNKNOWN_LABEL] < 0.001
    assert shares[1]['box'] > 0.1 and shares[0][WALL] > 0.1


def test_colours_arrive_as_rgb_and_the_floor_is_below(world, start):
    board = Thing('ball', (Part('box', (0.001, 0.3, 0.2), (0, 0, CAMERA.above_floor), RED),),
                  **before(start, 1.0))
    with Renderer(compile_world(world.with_unknown(board))) as renderer:
        image, geoms = renderer.image(start), renderer.geoms(start)
    red, green, blue = (float(value) for value in image[120, 160])
    assert red > 60 and green < 0.3 * red and blue < 0.3 * red
    compiled = compile_world(world)
    floor = [n for n in range(compiled.model.ngeom) if compiled.model.geom(n).name == '0'][0]
    assert (geoms[-1] == floor).mean() > 0.9 and not (geoms[0] == floor).any()


def test_equal_worlds_give_equal_images(world, start):
    images = []
    for _ in range(2):
        with Renderer(compile_world(world)) as renderer:
            images.append(renderer.image(start))
    assert np.array_equal(*images)
    assert images[0].shape == (240, 320, 3) and images[0].std() > 5


@pytest.mark.parametrize('kind', UNKNOWN)
def test_every_unknown_object_is_visible_from_near(world, start, kind):
    placed = replace(UNKNOWN[kind](np.random.default_rng(4)), **before(start, 1.6))
    with Renderer(compile_world(world.with_unknown(placed))) as renderer:
        assert renderer.labels(start)[UNKNOWN_LABEL] > 0.005
        with_object = renderer.image(start).astype(int)
    with Renderer(compile_world(world)) as renderer:
        assert np.abs(with_object - renderer.image(start)).mean() > 0.3


def test_a_mirror_shows_what_is_behind_the_robot(world, start):
    mirror = replace(UNKNOWN['mirror'](np.random.default_rng(1)), **before(start, 1.2))
    cos, sin = math.cos(start.yaw), math.sin(start.yaw)
    behind = Thing('box', (Part('box', (0.05, 0.8, 0.8), (0, 0, 0.8), RED),),
                   x=start.x - 0.6 * cos, y=start.y - 0.6 * sin, yaw=start.yaw)
    shown = []
    for things in ((), (behind,)):
        compiled = compile_world(replace(world, things=things, unknown=mirror))
        with Renderer(compiled) as renderer:
            shown.append(renderer.image(start)[100:140, 140:180].astype(float))
    reddish = [image[..., 0].mean() - image[..., 1].mean() for image in shown]
    assert reddish[1] > reddish[0] + 30


def test_without_mujoco_the_message_says_what_to_install(tmp_path):
    (tmp_path / 'mujoco.py').write_text('raise ImportError("none")')
    code = (
        'from nav_monitor_ros.sim.world.world import draw_world\n'
        'from nav_monitor_ros.sim.world.mjcf import compile_world\n'
        'try:\n    compile_world(draw_world(0, pieces=1))\n'
        'except Exception as error:\n    print(type(error).__name__, error)\n'
    )
    environment = {'PYTHONPATH': f'{tmp_path}:{":".join(sys.path)}'}
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.stdout == (
        "NavMonitorError the simulator needs MuJoCo: pip install 'nav_monitor_ros[sim]'\n")


AFTERWARDS = """
from nav_monitor_ros.sim.camera.rendering import Renderer
from nav_monitor_ros.sim.robot.kinematics import Pose
from nav_monitor_ros.sim.world.mjcf import compile_world
from nav_monitor_ros.sim.world.world import draw_world

with Renderer(compile_world(draw_world(2, pieces=1))) as renderer:
    assert renderer.image(Pose(1.0, 0.0, 0.0)).std() > 1
import torch._dynamo
import triton._C.libtriton
print('both')
"""


def test_triton_can_be_loaded_after_rendering():
    """Its LLVM and that of Mesa's software renderer crash each other in one order."""
    pytest.importorskip('triton')
    ended = subprocess.run(
        [sys.executable, '-c', AFTERWARDS], capture_output=True, text=True, timeout=120,
        check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, 'both'), ended.stderr[-2000:]
