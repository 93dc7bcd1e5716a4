"""Eight kinds of objects that no training drive contains.

Their surfaces come from the same pools as those of the known objects.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from nav_monitor_ros.sim.world.shapes import Part, Thing, rectangle
from nav_monitor_ros.sim.world.textures import Surface, draw_surface

PIT_DEPTH = 1.2  # m


def drop_off(rng: np.random.Generator) -> Thing:
    """Return an opening in the floor, such as a stairwell without a rail; walls reach down."""
    length, width = rng.uniform(0.9, 1.6), rng.uniform(0.9, 1.5)
    side, bottom = draw_surface(rng), draw_surface(rng)
    parts = [Part('box', (length / 2, width / 2, 0.02), (0, 0, -PIT_DEPTH), bottom)]
    for x, y, half_x, half_y in (
        (length / 2 + 0.03, 0, 0.03, width / 2), (-length / 2 - 0.03, 0, 0.03, width / 2),
        (0, width / 2 + 0.03, length / 2, 0.03), (0, -width / 2 - 0.03, length / 2, 0.03),
    ):
        # Below the floor's surface, so that the two do not flicker.
        parts.append(Part(
            'box', (half_x, half_y, PIT_DEPTH / 2), (x, y, -PIT_DEPTH / 2 - 0.004), side))
    return Thing('drop_off', tuple(parts), own_outlines=(rectangle(length, width),))


def mirror(rng: np.random.Generator) -> Thing:
    """Return a mirror panel that stands across the way, with a frame or without one."""
    wide, tall = rng.uniform(0.8, 1.3), rng.uniform(1.0, 1.9)
    glass = Surface('plain', ((0.12, 0.13, 0.14),) * 3, 3)
    # MuJoCo mirrors at the face of a box that looks along its z axis.
    face = Part('box', (wide / 2, tall / 2, 0.01), (0, 0, tall / 2 + 0.03), glass,
                (np.pi / 2, 0, -np.pi / 2), reflectance=0.85)
    parts = [face]
    surface = draw_surface(rng)
    parts.append(Part('box', (0.012, wide / 2, tall / 2), (0.025, 0, tall / 2 + 0.03), surface))
    if rng.random() < 0.5:
        for side in (-1, 1):
            parts.append(Part('box', (0.02, 0.03, tall / 2 + 0.03), (
                0, side * (wide / 2 + 0.03), tall / 2 + 0.03), surface))
        for z in (0.015, tall + 0.045):
            parts.append(Part('box', (0.02, wide / 2 + 0.06, 0.015), (0, 0, z), surface))
    return Thing('mirror', tuple(parts))


def plant(rng: np.random.Generator) -> Thing:
    """Return a plant in a pot, with leaves of one surface."""
    pot, leaf, stem = draw_surface(rng), draw_surface(rng), draw_surface(rng, ('plain', 'grain'))
    radius, high, tall = rng.uniform(0.12, 0.2), rng.uniform(0.2, 0.35), rng.uniform(0.3, 0.9)
    parts = [
        Part('cylinder', (radius, high / 2), (0, 0, high / 2), pot),
        Part('cylinder', (radius * 1.1, 0.02), (0, 0, high), pot),
        Part('cylinder', (0.02, tall / 2), (0, 0, high + tall / 2), stem),
    ]
    long = rng.uniform(0.12, 0.25)
    for _ in range(int(rng.integers(14, 30))):
        yaw, pitch = rng.uniform(-np.pi, np.pi), rng.uniform(-1.0, 0.5)
        z = high + tall * rng.uniform(0.15, 1.0)
        out = long * np.cos(pitch)
        parts.append(Part(
            'ellipsoid', (long, rng.uniform(0.03, 0.07), 0.008),
            (float(out * np.cos(yaw)), float(out * np.sin(yaw)), float(z - long * np.sin(pitch))),
            leaf, (0, float(pitch), float(yaw))))
    return Thing('plant', tuple(parts))


def spill(rng: np.random.Generator) -> Thing:
    """Return a puddle of irregular shape, thin and glossy, through which the floor may show."""
    base = rng.uniform(0.35, 0.6)
    count = 40
    angles = 2 * np.pi * np.arange(count) / count
    radius = np.full(count, base)
    for wave in range(2, 7):
        radius += base * rng.uniform(0, 0.35 / wave) * np.cos(
            wave * angles + rng.uniform(0, 2 * np.pi))
    rim = np.column_stack([radius * np.cos(angles), radius * np.sin(angles), np.full(count, 0.003)])
    vertices = np.concatenate([rim, [[0, 0, 0.006]]])
    places = np.arange(count)
    faces = np.column_stack([places, (places + 1) % count, np.full(count, count)])
    hull = cv2.convexHull(rim[:, :2].astype(np.float32), clockwise=False)[:, 0].astype(float)
    part = Part(
        'mesh', (), (0, 0, 0), draw_surface(rng, ('plain', 'blotches')),
        opacity=float(rng.uniform(0.55, 1.0)), shininess=1.0, vertices=vertices, faces=faces)
    return Thing('spill', (part,), own_outlines=(hull,))


def fallen_sign(rng: np.random.Generator) -> Thing:
    """Return a warning board that has fallen over: two boards at a small angle, with a symbol."""
    board, symbol = draw_surface(rng), draw_surface(rng, ('plain', 'stripes'))
    long, wide = rng.uniform(0.6, 0.95), rng.uniform(0.3, 0.45)
    open_by = float(rng.uniform(0.15, 0.5))
    parts = [Part('box', (long / 2, wide / 2, 0.012), (0, 0, 0.014), board)]
    # The upper board is hinged at one end.
    centre = (-long / 2 + long / 2 * np.cos(open_by), 0, 0.03 + long / 2 * np.sin(open_by))
    parts.append(Part('box', (long / 2, wide / 2, 0.012), centre, board, (0, -open_by, 0)))
    lift = (centre[0] - 0.014 * np.sin(open_by), 0, centre[2] + 0.014 * np.cos(open_by))
    parts.append(Part(
        'cylinder', (0.38 * wide, 0.004), lift, symbol, (0, -open_by, 0)))
    parts.append(Part('cylinder', (0.02, wide / 2 + 0.02), (-long / 2, 0, 0.03), symbol,
                      (np.pi / 2, 0, 0)))
    return Thing('fallen_sign', tuple(parts))


def ball(rng: np.random.Generator) -> Thing:
    """Return one to three balls that lie together."""
    parts = []
    x = y = 0.0
    for _ in range(int(rng.integers(1, 4))):
        radius = float(rng.uniform(0.12, 0.25))
        turn = tuple(float(angle) for angle in rng.uniform(-np.pi, np.pi, 3))
        parts.append(Part('sphere', (radius,), (x, y, radius), draw_surface(rng),
                          (turn[0], turn[1], turn[2]), shininess=0.6))
        x, y = x + float(rng.uniform(-0.1, 0.1)), y + 2.05 * radius
    return Thing('ball', tuple(parts))


def animal(rng: np.random.Generator) -> Thing:
    """Return a four-legged animal of the size of a cat or a dog."""
    fur = draw_surface(rng, ('plain', 'stripes', 'blotches', 'speckles', 'grain'))
    dark = Surface('plain', ((0.05, 0.05, 0.05),) * 3, 4)
    size = rng.uniform(0.7, 1.4)
    leg, long, thick = 0.25 * size, 0.28 * size, 0.1 * size
    high = leg + 0.6 * thick
    parts = [Part('ellipsoid', (long, thick, thick * 1.1), (0, 0, high), fur)]
    for x in (-0.65 * long, 0.65 * long):
        for y in (-0.55 * thick, 0.55 * thick):
            parts.append(Part('capsule', (0.028 * size, leg / 2 - 0.02), (x, y, leg / 2), fur,
                              (0, float(rng.uniform(-0.15, 0.15)), 0)))
    nod = rng.uniform(-0.05, 0.15) * size
    head = (long * 1.15, 0.0, high + 0.13 * size + nod)
    parts.append(Part('capsule', (0.05 * size, 0.07 * size), (long * 0.95, 0, high + 0.07 * size),
                      fur, (0, 0.7, 0)))
    parts.append(Part('ellipsoid', (0.1 * size, 0.075 * size, 0.08 * size), head, fur))
    parts.append(Part('ellipsoid', (0.06 * size, 0.035 * size, 0.035 * size), (
        head[0] + 0.1 * size, 0, head[2] - 0.02 * size), fur))
    parts.append(Part('sphere', (0.018 * size,), (
        head[0] + 0.155 * size, 0, head[2] - 0.005 * size), dark))
    for side in (-1, 1):
        parts.append(Part('ellipsoid', (0.02 * size, 0.03 * size, 0.055 * size), (
            head[0] - 0.03 * size, side * 0.055 * size, head[2] + 0.085 * size), fur))
        parts.append(Part('sphere', (0.013 * size,), (
            head[0] + 0.08 * size, side * 0.04 * size, head[2] + 0.03 * size), dark))
    parts.append(Part('capsule', (0.02 * size, 0.13 * size), (
        -long - 0.07 * size, 0, high + 0.1 * size), fur, (0, -0.7, 0)))
    return Thing('animal', tuple(parts))


def robot(rng: np.random.Generator) -> Thing:
    """Return another mobile robot: a base on wheels with a scanner, and perhaps a mast."""
    shell, trim = draw_surface(rng), draw_surface(rng, ('plain', 'grain'))
    black = Surface('plain', ((0.06, 0.06, 0.07),) * 3, 5)
    base = float(rng.uniform(0.18, 0.3))
    high = float(rng.uniform(0.15, 0.35))
    parts = []
    if rng.random() < 0.5:
        parts.append(Part('cylinder', (base, high / 2), (0, 0, 0.06 + high / 2), shell))
        parts.append(Part('cylinder', (base * 1.02, 0.02), (0, 0, 0.06 + high / 2), trim))
    else:
        parts.append(Part('box', (base * 1.2, base, high / 2), (0, 0, 0.06 + high / 2), shell))
        parts.append(Part('box', (base * 1.22, base * 1.02, 0.02), (0, 0, 0.1 + high / 2), trim))
    for x in (-0.6 * base, 0.6 * base):
        for y in (-0.95 * base, 0.95 * base):
            parts.append(Part('cylinder', (0.08, 0.025), (x, y, 0.08), black, (np.pi / 2, 0, 0)))
    top = 0.06 + high
    parts.append(Part('cylinder', (0.055, 0.035), (0.4 * base, 0, top + 0.035), black))
    parts.append(Part('cylinder', (0.05, 0.015), (0.4 * base, 0, top + 0.085), trim))
    if rng.random() < 0.6:
        mast = float(rng.uniform(0.3, 0.8))
        parts.append(Part('cylinder', (0.025, mast / 2), (-0.3 * base, 0, top + mast / 2), trim))
        parts.append(Part('box', (0.015, 0.13, 0.09), (-0.3 * base, 0, top + mast), black,
                          (0, -0.2, 0)))
    return Thing('robot', tuple(parts))


UNKNOWN: dict[str, Callable[[np.random.Generator], Thing]] = {
    'drop_off': drop_off,
    'mirror': mirror,
    'plant': plant,
    'spill': spill,
    'fallen_sign': fallen_sign,
    'ball': ball,
    'animal': animal,
    'robot': robot,
}
