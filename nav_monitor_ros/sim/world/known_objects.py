"""The objects that training drives contain: boxes, pallets, people-like figures and doors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nav_monitor_ros.sim.world.shapes import Part, Thing
from nav_monitor_ros.sim.world.textures import Surface, draw_surface

_CLOTH = ('plain', 'stripes', 'checks', 'grain', 'blotches', 'speckles')
_SKIN = ((0.87, 0.68, 0.55), (0.74, 0.54, 0.4), (0.5, 0.33, 0.23), (0.32, 0.2, 0.14))


def box(rng: np.random.Generator, unseen: bool = False) -> Thing:
    """Return one box, or two or three piled up, with a strip of tape."""
    parts: list[Part] = []
    height = 0.0
    length, width = rng.uniform(0.3, 0.75), rng.uniform(0.3, 0.6)
    for _ in range(int(rng.integers(1, 4))):
        tall = rng.uniform(0.2, 0.5)
        turn = (0.0, 0.0, float(rng.uniform(-0.25, 0.25)))
        surface = draw_surface(rng, ('plain', 'grain', 'blotches', 'stripes'), unseen=unseen)
        parts.append(_box(length, width, tall, (0, 0, height + tall / 2), surface, turn))
        tape = Surface('plain', (surface.colors[1],) * 3, surface.seed)
        parts.append(_box(
            length + 0.004, 0.06, tall + 0.004, (0, 0, height + tall / 2), tape, turn))
        height += tall
        length, width = length * rng.uniform(0.6, 0.95), width * rng.uniform(0.6, 0.95)
    return Thing('box', tuple(parts), unseen_dress=unseen)


def pallet(rng: np.random.Generator, unseen: bool = False) -> Thing:
    """Return a pallet of boards on three beams, empty or loaded with other pallets."""
    parts = []
    wood = draw_surface(rng, ('grain', 'plain'), unseen=unseen)
    length, width = rng.uniform(0.8, 1.2), rng.uniform(0.6, 0.8)
    for level in range(int(rng.integers(1, 5))):
        base = 0.144 * level
        for side in (-1, 0, 1):
            parts.append(_box(
                length, 0.09, 0.1, (0, side * (width / 2 - 0.05), base + 0.072), wood))
        for place in np.linspace(-1, 1, 6):
            parts.append(_box(
                0.11, width, 0.022, (place * (length / 2 - 0.06), 0, base + 0.133), wood))
    # A closed outline, because nothing passes between the beams.
    whole = _box(length, width, 0.144, (0, 0, 0.072), wood)
    hull = whole.surface_points()[:, :2]
    corners = np.array([hull.min(0), (hull[:, 0].max(), hull[:, 1].min()), hull.max(0),
                        (hull[:, 0].min(), hull[:, 1].max())])
    return Thing('pallet', tuple(parts), own_outlines=(corners,), unseen_dress=unseen)


def person(rng: np.random.Generator, unseen: bool = False) -> Thing:
    """Return a standing figure with legs, trunk, arms and a head."""
    tall = rng.uniform(1.5, 1.9)
    trousers = draw_surface(rng, _CLOTH, unseen=unseen)
    shirt = draw_surface(rng, _CLOTH, unseen=unseen)
    shoe = draw_surface(rng, ('plain',), unseen=unseen)
    skin = Surface('plain', (_SKIN[int(rng.integers(len(_SKIN)))],) * 3, 1)
    hair = draw_surface(rng, ('plain', 'grain'), unseen=unseen)
    hip, shoulder, stride = 0.5 * tall, 0.82 * tall, rng.uniform(0.0, 0.3)
    swing = rng.uniform(-0.6, 0.6, 2)
    parts = []
    for side, lean in ((-1, stride), (1, -stride)):
        parts.append(_limb((0, side * 0.09, hip), hip - 0.06, (0, lean), 0.075, trousers))
        foot = (hip - 0.06) * np.sin(-lean)
        parts.append(Part(
            'ellipsoid', (0.13, 0.05, 0.05), (float(foot) + 0.05, side * 0.09, 0.05), shoe))
    parts.append(Part(
        'ellipsoid', (0.13, 0.21, (shoulder - hip) / 2 + 0.1),
        (0, 0, (shoulder + hip) / 2), shirt))
    for side, lean in zip((-1, 1), swing, strict=True):
        parts.append(_limb(
            (0, side * 0.22, shoulder - 0.05), 0.34 * tall, (side * 0.12, float(lean)), 0.05,
            shirt))
    parts.append(Part('cylinder', (0.05, 0.06), (0, 0, shoulder + 0.04), skin))
    parts.append(Part('ellipsoid', (0.1, 0.085, 0.12), (0, 0, 0.93 * tall), skin))
    parts.append(Part('ellipsoid', (0.105, 0.092, 0.09), (-0.02, 0, 0.965 * tall), hair))
    return Thing('person', tuple(parts), unseen_dress=unseen)


def door(rng: np.random.Generator, unseen: bool = False) -> Thing:
    """Return a closed door with its frame and handle; it lies in the plane x = 0, facing +x."""
    leaf = draw_surface(rng, ('plain', 'grain', 'panels', 'stripes'), unseen=unseen)
    frame = draw_surface(rng, ('plain',), unseen=unseen)
    wide, tall = rng.uniform(0.85, 1.1), rng.uniform(2.0, 2.15)
    parts = [_box(0.04, wide, tall, (0.01, 0, tall / 2), leaf)]
    for side in (-1, 1):
        parts.append(_box(0.08, 0.09, tall + 0.09, (
            0.02, side * (wide / 2 + 0.045), (tall + 0.09) / 2), frame))
    parts.append(_box(0.08, wide, 0.09, (0.02, 0, tall + 0.045), frame))
    metal = Surface('plain', ((0.75, 0.75, 0.78),) * 3, 2)
    handle = float(rng.choice((-1, 1)))
    parts.append(Part('capsule', (0.015, 0.06), (0.08, handle * (wide / 2 - 0.12), 1.05), metal,
                      (np.pi / 2, 0, 0)))
    parts.append(_box(0.045, 0.12, 0.2, (0.012, handle * (wide / 2 - 0.1), 1.05), metal))
    if rng.random() < 0.5:  # a kick plate, which a low camera sees
        parts.append(_box(0.045, wide - 0.1, 0.25, (0.012, 0, 0.16), metal))
    return Thing('door', tuple(parts), unseen_dress=unseen)


def _box(
    length: float, width: float, height: float, centre: tuple[float, float, float],
    surface: Surface, rotation: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Part:
    return Part('box', (length / 2, width / 2, height / 2), centre, surface, rotation)


def _limb(
    joint: tuple[float, float, float], length: float, lean: tuple[float, float], radius: float,
    surface: Surface,
) -> Part:
    """Return a capsule that hangs from a joint, leaning by roll and pitch in rad."""
    part = Part('capsule', (radius, length / 2), (0, 0, 0), surface, (*lean, 0.0))
    down = part.matrix @ np.array([0, 0, -length / 2])
    x, y, z = (float(value) for value in np.add(joint, down))
    return Part('capsule', part.size, (x, y, z), surface, part.rotation)


# What stands in the way; a door is part of a wall.
KNOWN: dict[str, Callable[[np.random.Generator, bool], Thing]] = {
    'box': box,
    'pallet': pallet,
    'person': person,
}
