"""Worlds as MJCF, built in memory, with the label of every geom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

from nav_monitor_ros.sim.mujoco_library import load_mujoco
from nav_monitor_ros.sim.world.floor_plan import Wall
from nav_monitor_ros.sim.world.shapes import Part, Thing
from nav_monitor_ros.sim.world.textures import Surface, draw_texture
from nav_monitor_ros.sim.world.world import HEIGHT, World

FREE, WALL, UNKNOWN = 'free', 'wall', 'unknown'  # labels of geoms besides the known kinds
_TEXTURE_SIZE = 2.0  # m of a floor or ceiling that one texture covers
_TILE = 1.0  # m; lights are computed at the corners of tiles
_SHADE = 0.07  # m by which an object's shade is larger than the object
_FLUSH = ('door', 'drop_off', 'spill')  # kinds without a shade


@dataclass(frozen=True, eq=False)
class CompiledWorld:
    """A world that MuJoCo can render."""

    world: World
    model: Any  # mujoco.MjModel
    labels: tuple[str, ...]  # label of each geom: FREE, WALL, UNKNOWN or a known kind


def compile_world(world: World) -> CompiledWorld:
    """Build the MuJoCo model of a world.

    Raises:
        NavMonitorError: MuJoCo is not installed.
    """
    builder = _Builder()
    builder.mesh('floor', FREE, _floor(world), world.floor)
    builder.mesh('ceiling', FREE, _ceiling(world), world.ceiling)
    builder.mesh('walls', WALL, _walls(world.plan.walls), world.wall)
    for thing in (*world.doors, *world.things):
        builder.thing(thing, thing.kind)
    if world.unknown is not None:
        builder.thing(world.unknown, UNKNOWN)
    lamp = Surface('plain', ((1.0, 1.0, 0.97),) * 3, 6)
    for x, y in world.lamps:
        part = Part('box', (0.3, 0.12, 0.02), (float(x), float(y), HEIGHT - 0.02), lamp,
                    emission=1.0)
        builder.part(part, FREE)
    builder.lights(world)
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string(builder.xml(), builder.files)
    # MuJoCo numbers the geoms anew, body by body.
    labels = tuple(builder.labels[int(model.geom(n).name)] for n in range(model.ngeom))
    return CompiledWorld(world, model, labels)


def _shade(thing: Thing) -> Part:
    """Return a dark patch on the floor around an object, instead of its shadow."""
    points = np.concatenate(thing.outlines).astype(np.float32)
    hull = cv2.convexHull(points, clockwise=False)[:, 0].astype(float)
    centre = hull.mean(0)
    away = hull - centre
    rim = hull + _SHADE * away / np.maximum(np.hypot(*away.T), 1e-9)[:, None]
    count = len(rim)
    vertices = np.column_stack([np.vstack([rim, centre]), np.full(count + 1, 0.001)])
    places = np.arange(count)
    faces = np.column_stack([places, (places + 1) % count, np.full(count, count)])
    return Part('mesh', (), (0, 0, 0), Surface('plain', ((0.0, 0.0, 0.0),) * 3, 7), opacity=0.35,
                shininess=0.0, vertices=vertices, faces=faces)


@dataclass(frozen=True, eq=False)
class _Mesh:
    vertices: np.ndarray  # (N, 3), m
    coordinates: np.ndarray  # (N, 2), of the texture
    normals: np.ndarray  # (N, 3)
    faces: np.ndarray  # (M, 3)


class _Builder:
    """Collects the elements of a model."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.labels: list[str] = []
        self._root = ElementTree.Element('mujoco')
        ElementTree.SubElement(
            self._root, 'compiler', angle='radian', inertiafromgeom='false',
            boundmass='1', boundinertia='1')
        visual = ElementTree.SubElement(self._root, 'visual')
        ElementTree.SubElement(visual, 'quality', offsamples='0', shadowsize='0')
        ElementTree.SubElement(visual, 'map', znear='0.002', zfar='8')
        self._headlight = ElementTree.SubElement(visual, 'headlight')
        ElementTree.SubElement(self._root, 'statistic', extent='10', center='0 0 0')
        self._asset = ElementTree.SubElement(self._root, 'asset')
        self._body = ElementTree.SubElement(self._root, 'worldbody')
        self._materials: dict[tuple[object, ...], str] = {}
        self._textures: dict[tuple[Surface, str], str] = {}

    def xml(self) -> str:
        """Return the model's XML."""
        return ElementTree.tostring(self._root, encoding='unicode')

    def lights(self, world: World) -> None:
        """Add the illumination: ambient light and two directional lights from above."""
        light = world.light
        tint = 1 + 0.12 * light.warmth * np.array([1, 0, -1])
        self._headlight.set('ambient', _numbers(light.ambient * tint))
        self._headlight.set('diffuse', _numbers(0.15 * tint))
        self._headlight.set('specular', '0.1 0.1 0.1')
        for turn, share in ((0.0, 1.0), (2.2, 0.5)):
            angle = light.direction + turn
            ElementTree.SubElement(
                self._body, 'light', type='directional', castshadow='false',
                dir=_numbers((np.cos(angle), np.sin(angle), -1.0)),
                diffuse=_numbers(light.strength * share * tint), ambient='0 0 0',
                specular=_numbers(0.3 * share * tint))

    def thing(self, thing: Thing, label: str) -> None:
        """Add the parts of an object."""
        body = ElementTree.SubElement(
            self._body, 'body', pos=_numbers((thing.x, thing.y, 0)),
            quat=_numbers((np.cos(thing.yaw / 2), 0, 0, np.sin(thing.yaw / 2))))
        if thing.kind not in _FLUSH:
            self.part(_shade(thing), FREE)
        for part in thing.parts:
            self.part(part, label, body)

    def part(
        self, part: Part, label: str, body: ElementTree.Element | None = None
    ) -> None:
        """Add one solid."""
        body = self._body if body is None else body
        flat = part.vertices is not None
        geom = ElementTree.SubElement(
            body, 'geom', name=str(len(self.labels)), type=part.shape, pos=_numbers(part.position),
            xyaxes=_numbers(part.matrix[:, :2].T.reshape(-1)), contype='0', conaffinity='0',
            material=self._material(part, '2d' if flat or part.reflectance else 'cube'))
        if part.vertices is not None:
            assert part.faces is not None
            up = np.tile((0.0, 0.0, 1.0), (len(part.vertices), 1))
            name = self._mesh_asset(
                f'part{len(self.labels)}',
                _Mesh(part.vertices, part.vertices[:, :2], up, part.faces))
            geom.set('mesh', name)
        else:
            geom.set('size', _numbers(part.size))
        self.labels.append(label)

    def mesh(self, name: str, label: str, mesh: _Mesh, surface: Surface) -> None:
        """Add a mesh of the building."""
        part = Part('mesh', (), (0, 0, 0), surface, shininess=0.1)
        ElementTree.SubElement(
            self._body, 'geom', name=str(len(self.labels)), type='mesh',
            mesh=self._mesh_asset(name, mesh), contype='0', conaffinity='0',
            material=self._material(part, '2d'))
        self.labels.append(label)

    def _mesh_asset(self, name: str, mesh: _Mesh) -> str:
        ElementTree.SubElement(
            self._asset, 'mesh', name=name, inertia='shell',
            vertex=_numbers(mesh.vertices.reshape(-1)), normal=_numbers(mesh.normals.reshape(-1)),
            texcoord=_numbers(mesh.coordinates.reshape(-1)),
            face=' '.join(str(int(number)) for number in mesh.faces.reshape(-1)))
        return name

    def _texture(self, surface: Surface, kind: str) -> str:
        key = (surface, kind)
        if key not in self._textures:
            name = f'texture{len(self._textures)}'
            bgr = np.ascontiguousarray(draw_texture(surface)[..., ::-1])
            self.files[f'{name}.png'] = cv2.imencode('.png', bgr)[1].tobytes()
            ElementTree.SubElement(
                self._asset, 'texture', name=name, type=kind, file=f'{name}.png')
            self._textures[key] = name
        return self._textures[key]

    def _material(self, part: Part, kind: str) -> str:
        key = (part.surface, kind, part.opacity, part.shininess, part.reflectance, part.emission)
        if key not in self._materials:
            name = f'material{len(self._materials)}'
            ElementTree.SubElement(
                self._asset, 'material', name=name, texture=self._texture(part.surface, kind),
                rgba=_numbers((1, 1, 1, part.opacity)), shininess=str(part.shininess),
                specular=str(part.shininess), reflectance=str(part.reflectance),
                emission=str(part.emission), texuniform='false')
            self._materials[key] = name
        return self._materials[key]


def _numbers(values: Iterable[float]) -> str:
    return ' '.join(f'{float(value):.6g}' for value in values)


def _floor(world: World) -> _Mesh:
    """Return the floor, without what lies under a drop-off."""
    unknown = world.unknown
    hole = unknown.outlines[0] if unknown is not None and unknown.kind == 'drop_off' else None
    return _level(world, 0.0, 1.0, hole)


def _ceiling(world: World) -> _Mesh:
    return _level(world, HEIGHT, -1.0, None)


def _level(world: World, height: float, up: float, hole: np.ndarray | None) -> _Mesh:
    vertices: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    count = 0
    for polygon in _tiles(world):
        for piece in [polygon] if hole is None else _outside(polygon, hole):
            order = piece if up > 0 else piece[::-1]
            vertices.append(np.column_stack([order, np.full(len(order), height)]))
            fan = np.arange(1, len(order) - 1)
            faces.append(count + np.column_stack([np.zeros(len(fan), int), fan, fan + 1]))
            count += len(order)
    points = np.concatenate(vertices)
    normals = np.tile((0.0, 0.0, up), (len(points), 1))
    return _Mesh(points, points[:, :2] / _TEXTURE_SIZE, normals, np.concatenate(faces))


def _tiles(world: World) -> list[np.ndarray]:
    """Return squares and rectangles that cover the free space once, each (4, 2) in m."""
    edges = np.array(world.plan.rectangles)
    cuts = []
    for axis in (0, 1):
        ends = np.unique(np.round(edges[:, [axis, axis + 2]].reshape(-1), 6))
        fine = [
            np.linspace(low, high, max(1, round((high - low) / _TILE)) + 1)[:-1]
            for low, high in pairwise(ends)
        ]
        cuts.append(np.concatenate([*fine, ends[-1:]]))
    tiles = []
    xs, ys = cuts
    for x0, x1 in pairwise(xs):
        middles = np.column_stack([np.full(len(ys) - 1, (x0 + x1) / 2), (ys[:-1] + ys[1:]) / 2])
        for place in np.flatnonzero(world.plan.contains(middles)):
            y0, y1 = ys[place], ys[place + 1]
            tiles.append(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]))
    return tiles


def _outside(polygon: np.ndarray, hole: np.ndarray) -> list[np.ndarray]:
    """Return convex pieces of a convex polygon outside another, both counter-clockwise."""
    pieces, rest = [], polygon
    for start, end in zip(hole, np.roll(hole, -1, axis=0), strict=True):
        inward = np.array([start[1] - end[1], end[0] - start[0]])
        outer = _half(rest, start, -inward)
        if len(outer) >= 3:
            pieces.append(outer)
        rest = _half(rest, start, inward)
        if len(rest) < 3:
            break
    return pieces


def _half(polygon: np.ndarray, point: np.ndarray, inward: np.ndarray) -> np.ndarray:
    """Return the part of a convex polygon on one side of a line (Sutherland and Hodgman, 1974)."""
    sides = (polygon - point) @ inward
    kept = []
    for here, there, side, other in zip(
        polygon, np.roll(polygon, -1, axis=0), sides, np.roll(sides, -1), strict=True
    ):
        if side >= 0:
            kept.append(here)
        if (side > 0 > other) or (side < 0 < other):
            kept.append(here + (there - here) * side / (side - other))
    return np.array(kept).reshape(-1, 2)


def _walls(walls: tuple[Wall, ...]) -> _Mesh:
    vertices, coordinates, normals, faces = [], [], [], []
    count = 0
    for wall in walls:
        steps = max(1, round(wall.length / _TILE))
        along = np.linspace(0, wall.length, steps + 1)
        levels = np.linspace(0, HEIGHT, 4)
        # Looking from inside, a wall's start is on the right: the texture runs from there.
        u, v = np.meshgrid(along, levels, indexing='ij')
        points = np.array(wall.start) + u.reshape(-1, 1) * wall.direction
        vertices.append(np.column_stack([points, v.reshape(-1)]))
        coordinates.append(np.column_stack([-u.reshape(-1) / HEIGHT, v.reshape(-1) / HEIGHT]))
        normals.append(np.tile((*wall.inward, 0.0), (u.size, 1)))
        rows = len(levels)
        for column in range(steps):
            for row in range(rows - 1):
                a = count + column * rows + row
                faces += [(a, a + 1, a + rows), (a + rows, a + 1, a + rows + 1)]
        count += u.size
    return _Mesh(
        np.concatenate(vertices), np.concatenate(coordinates), np.concatenate(normals),
        np.array(faces))
