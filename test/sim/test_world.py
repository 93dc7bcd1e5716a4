"""Worlds are repeated by their seed, closed, passable, and share their pools of surfaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nav_monitor_ros.sim.drives import states_along
from nav_monitor_ros.sim.labels import AHEAD_CLASSES
from nav_monitor_ros.sim.robot.footprint import gap_to_known
from nav_monitor_ros.sim.world.floor_plan import draw_floor_plan
from nav_monitor_ros.sim.world.known_objects import KNOWN
from nav_monitor_ros.sim.world.textures import (
    PALETTE,
    PATTERNS,
    SIDE,
    UNSEEN_PATTERNS,
    draw_surface,
    draw_texture,
)
from nav_monitor_ros.sim.world.unknown_objects import UNKNOWN
from nav_monitor_ros.sim.world.world import draw_world


def described(thing):
    return (thing.kind, thing.x, thing.y, thing.yaw, len(thing.parts),
            [part.surface for part in thing.parts])


def test_equal_seeds_give_equal_worlds():
    one, other, third = draw_world(5), draw_world(5), draw_world(6)
    assert np.array_equal(one.path, other.path)
    assert [described(t) for t in one.objects] == [described(t) for t in other.objects]
    assert (one.floor, one.wall, one.light) == (other.floor, other.wall, other.light)
    assert (one.floor, one.wall) != (third.floor, third.wall)


@pytest.mark.parametrize('seed', range(6))
def test_walls_close_the_free_space(seed):
    plan = draw_floor_plan(np.random.default_rng(seed), 4)
    # Every end of a wall is the start of another, and the inside is on the left of each.
    assert sorted(w.start for w in plan.walls) == sorted(w.end for w in plan.walls)
    middles = np.array([(np.add(w.start, w.end)) / 2 for w in plan.walls])
    inward = np.array([w.inward for w in plan.walls])
    assert plan.contains(middles + 0.05 * inward).all()
    assert not plan.contains(middles - 0.05 * inward).any()
    # The area by the divergence theorem is that of the union of the rectangles.
    area = -sum(float(m @ n) * w.length for m, n, w in zip(
        middles, inward, plan.walls, strict=True)) / 2
    low, high = middles.min(0), middles.max(0)
    axes = [np.arange(a + 0.1, b, 0.2) for a, b in zip(low, high, strict=True)]
    cells = np.array(np.meshgrid(*axes)).reshape(2, -1).T
    assert area == pytest.approx(0.04 * plan.contains(cells).sum())


@pytest.mark.parametrize('seed', [1, 8, 20])
def test_a_drive_reaches_its_end_without_contact(seed):
    world = draw_world(seed)
    states = [state for _, state in states_along(world)]
    gaps = [gap_to_known(state.pose, world) for state in states[::15]]
    assert min(gaps) > 0.05
    end = states[-1].pose
    assert np.hypot(*(world.path[-1] - (end.x, end.y))) < 0.7


def test_training_drives_contain_known_kinds_only():
    assert not set(KNOWN) & set(UNKNOWN)
    assert {*KNOWN, 'door'} <= set(AHEAD_CLASSES) and not set(UNKNOWN) & set(AHEAD_CLASSES)
    for seed in range(20):
        world = draw_world(seed)
        assert world.unknown is None
        assert {thing.kind for thing in world.objects} <= {*KNOWN, 'door'}
        for thing in world.objects:
            assert not thing.unseen_dress
            assert not {part.surface.pattern for part in thing.parts} & set(UNSEEN_PATTERNS)


@pytest.mark.parametrize('kind', UNKNOWN)
def test_unknown_objects_are_dressed_from_the_pools_of_known_ones(kind):
    drawn = set()
    for seed in range(8):
        thing = UNKNOWN[kind](np.random.default_rng(seed))
        assert thing.kind == kind and thing.outlines
        surfaces = {part.surface for part in thing.parts}
        assert {surface.pattern for surface in surfaces} <= set(PATTERNS)
        drawn |= {surface for surface in surfaces if surface.seed > 10}
    assert drawn and all(set(surface.colors) <= set(PALETTE) for surface in drawn)


def test_unseen_dress_is_in_no_training_drive():
    worlds = [draw_world(seed, unseen_dress=True) for seed in range(6)]
    dressed = [thing for world in worlds for thing in world.things if thing.unseen_dress]
    plain = [thing for world in worlds for thing in world.things if not thing.unseen_dress]
    assert dressed and plain
    patterns = {part.surface.pattern for thing in dressed for part in thing.parts}
    assert patterns & set(UNSEEN_PATTERNS)


@pytest.mark.parametrize('pattern', [*PATTERNS, *UNSEEN_PATTERNS])
def test_textures_are_repeated_by_their_seed_and_are_not_uniform(pattern):
    surface = replace(draw_surface(np.random.default_rng(3)), pattern=pattern)
    texture = draw_texture(surface)
    assert texture.shape == (SIDE, SIDE, 3) and texture.dtype == np.uint8
    assert np.array_equal(texture, draw_texture(surface))
    assert texture.std() > 1
    assert not np.array_equal(texture, draw_texture(replace(surface, seed=surface.seed + 1)))
