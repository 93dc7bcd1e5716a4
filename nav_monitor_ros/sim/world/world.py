"""Worlds made by seed: a floor plan with surfaces, doors, known objects, lamps and a path."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nav_monitor_ros.sim.world.floor_plan import FloorPlan, draw_floor_plan
from nav_monitor_ros.sim.world.known_objects import KNOWN, door
from nav_monitor_ros.sim.world.shapes import Thing
from nav_monitor_ros.sim.world.textures import Surface, draw_surface

HEIGHT = 2.6  # m, of walls
PATH_STEP = 0.05  # m between points of the path
CLEARANCE = 0.38  # m between the path and what stands beside it
_AROUND = 0.35  # m before and behind an object over which the path keeps its distance
_BEND = 0.9  # m over which the path moves aside


@dataclass(frozen=True)
class Light:
    """Illumination of a world."""

    ambient: float  # share of the full brightness
    strength: float  # of the directional lights
    direction: float  # rad, from which the stronger of them comes
    warmth: float  # in [-1, 1]: bluish to reddish


@dataclass(frozen=True, eq=False)
class World:
    """Everything that a camera sees and a robot can touch."""

    seed: int
    plan: FloorPlan
    floor: Surface
    wall: Surface
    ceiling: Surface
    doors: tuple[Thing, ...]
    things: tuple[Thing, ...]  # known objects
    lamps: np.ndarray  # (N, 2), m
    light: Light
    path: np.ndarray  # (N, 2), m, PATH_STEP apart: for the driver
    straight: np.ndarray  # bool (N,): whether the path is on a straight piece, not near its ends
    unknown: Thing | None = None

    def with_unknown(self, thing: Thing | None) -> World:
        """Return the same world with an unknown object in it, or without one."""
        return replace(self, unknown=thing)

    @property
    def objects(self) -> tuple[Thing, ...]:
        """Return all objects that can be touched."""
        more = () if self.unknown is None else (self.unknown,)
        return (*self.doors, *self.things, *more)


def draw_world(seed: int, *, pieces: int = 4, unseen_dress: bool = False) -> World:
    """Make a world; equal arguments give equal worlds.

    Args:
        seed: Non-negative.
        pieces: As for ``draw_floor_plan``.
        unseen_dress: Give some of the known objects surfaces that no training drive contains.
    """
    rng = np.random.default_rng([seed, 1])
    plan = draw_floor_plan(rng, pieces)
    floor = draw_surface(
        rng, ('plain', 'tiles', 'speckles', 'grain', 'checks', 'blotches'), muted=True)
    wall = draw_surface(rng, ('plain', 'panels', 'bricks', 'tiles', 'blotches'), muted=True)
    ceiling = Surface('plain', ((0.85, 0.85, 0.83),) * 3, int(rng.integers(2**31)))
    light = Light(
        float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.3, 0.5)),
        float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(-1, 1)))
    doors = _draw_doors(rng, plan)
    things, path, straight = _furnish(rng, plan, unseen_dress)
    lamps = path[:: round(3.0 / PATH_STEP)]
    return World(seed, plan, floor, wall, ceiling, doors, things, lamps, light, path, straight)


def _draw_doors(rng: np.random.Generator, plan: FloorPlan) -> tuple[Thing, ...]:
    doors = []
    for wall in plan.walls:
        # A wall as long as a corridor is wide may be the one that the robot drives towards.
        places: list[float] = []
        if 1.4 < wall.length < 3.5:
            if rng.random() < 0.5:
                places = [wall.length / 2]
        elif wall.length >= 3.5:
            at = rng.uniform(0.8, 2.5)
            while at < wall.length - 0.8:
                places.append(float(at))
                at += rng.uniform(2.0, 6.0)
        dress = np.random.default_rng(rng.integers(2**31))
        for place in places:
            x, y = wall.start + wall.direction * place
            yaw = float(np.arctan2(wall.inward[1], wall.inward[0]))
            doors.append(replace(door(dress), x=float(x), y=float(y), yaw=yaw))
    return tuple(doors)


def _furnish(
    rng: np.random.Generator, plan: FloorPlan, unseen_dress: bool
) -> tuple[tuple[Thing, ...], np.ndarray, np.ndarray]:
    """Place known objects along the path, and lead the path around them."""
    things: list[Thing] = []
    points: list[np.ndarray] = []
    straight: list[np.ndarray] = []
    last = len(plan.widths) - 1
    for number, width in enumerate(plan.widths):
        start, end = plan.corners[number], plan.corners[number + 1]
        length = float(np.hypot(*(end - start)))
        along = (end - start) / length
        left = np.array([-along[1], along[0]])
        knots = [(0.0, 0.0)]
        at = float(rng.uniform(3.2, 5.0))
        while at < length - 2.2:
            thing, offset = _draw_thing(rng, width / 2, unseen_dress)
            if thing is not None:
                x, y = start + along * at + left * thing.y
                yaw = thing.yaw + float(np.arctan2(along[1], along[0]))
                things.append(replace(thing, x=float(x), y=float(y), yaw=yaw))
                reach = thing.radius + _AROUND
                knots += [(at - reach, offset), (at + reach, offset)]
                at += reach + _AROUND
            at += float(rng.uniform(2 * _BEND, 3.5))
        # The end of the last piece is a wall.
        stop = length - (0.0 if number < last else 0.9 - width / 2)
        knots = _with_bends(knots, stop)
        distances = np.arange(0.0, stop, PATH_STEP)
        offsets = np.interp(
            distances, [at for at, _ in knots], [offset for _, offset in knots])
        points.append(start + distances[:, None] * along + offsets[:, None] * left)
        straight.append((distances > 1.0) & (distances < length - 1.0))
    return tuple(things), np.concatenate(points), np.concatenate(straight)


def _with_bends(knots: list[tuple[float, float]], stop: float) -> list[tuple[float, float]]:
    """Return knots between which the path returns to the middle where there is room for it."""
    bent = [knots[0]]
    for at, offset in [*knots[1:], (stop, 0.0)]:
        before, there = bent[-1]
        if offset != there and at - before > 2 * _BEND:
            if there != 0.0:
                bent.append((before + _BEND, 0.0))
            if offset != 0.0:
                bent.append((at - _BEND, 0.0))
        bent.append((at, offset))
    return bent


def _draw_thing(
    rng: np.random.Generator, half: float, unseen_dress: bool
) -> tuple[Thing | None, float]:
    """Return an object, y being its place across the corridor, and the path's place beside it."""
    kinds = tuple(KNOWN)
    kind = kinds[int(rng.integers(len(kinds)))]
    dress = np.random.default_rng(rng.integers(2**31))
    thing = KNOWN[kind](dress, unseen_dress and bool(dress.random() < 0.5))
    yaw = float(rng.choice((0, np.pi / 2)) + rng.uniform(-0.3, 0.3))
    if kind == 'person':
        yaw = float(rng.uniform(-np.pi, np.pi))
    thing = replace(thing, yaw=yaw)
    across = np.concatenate([hull[:, 1] for hull in thing.outlines])
    low, high = float(across.min()), float(across.max())
    place = float(rng.uniform(-half - low, half - high))
    ranges = [
        (place + high + CLEARANCE, half - CLEARANCE), (-half + CLEARANCE, place + low - CLEARANCE)
    ]
    offsets = [float(np.clip(0.0, *one)) for one in ranges if one[0] <= one[1]]
    if not offsets:
        return None, 0.0
    return replace(thing, y=place), min(offsets, key=abs)
