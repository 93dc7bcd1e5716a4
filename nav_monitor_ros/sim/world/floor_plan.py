"""Floor plans: corridors with turns and rooms, their walls, and the centre line through them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELL = 0.2  # m; corridors and rooms lie on this grid
_MARGIN = 3  # cells between corridors that do not meet


@dataclass(frozen=True)
class Wall:
    """A straight piece of wall, seen from inside."""

    start: tuple[float, float]  # m
    end: tuple[float, float]  # m; the inside is to the left of the way from start to end

    @property
    def length(self) -> float:
        """Return the length in m."""
        return float(np.hypot(*np.subtract(self.end, self.start)))

    @property
    def direction(self) -> np.ndarray:
        """Return the unit vector from start to end, (2,)."""
        return np.subtract(self.end, self.start) / self.length

    @property
    def inward(self) -> np.ndarray:
        """Return the unit vector that points inside, (2,)."""
        along = self.direction
        return np.array([-along[1], along[0]])


@dataclass(frozen=True, eq=False)
class FloorPlan:
    """Free space, its walls and the centre line."""

    # Axis-aligned rectangles whose union is the free space: x0, y0, x1, y1 in m.
    rectangles: tuple[tuple[float, float, float, float], ...]
    walls: tuple[Wall, ...]
    corners: np.ndarray  # (N, 2), m: of the centre line, from its start to its end
    widths: tuple[float, ...]  # m: of the corridor along each of the N - 1 straight pieces

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return whether points lie in the free space.

        Args:
            points: (N, 2), m.

        Returns:
            bool (N,).
        """
        inside = np.zeros(len(points), bool)
        for x0, y0, x1, y1 in self.rectangles:
            inside |= (
                (points[:, 0] > x0) & (points[:, 0] < x1)
                & (points[:, 1] > y0) & (points[:, 1] < y1)
            )
        return inside


def draw_floor_plan(rng: np.random.Generator, pieces: int) -> FloorPlan:
    """Draw a plan.

    Args:
        rng: Source of randomness.
        pieces: Straight pieces of corridor, at least 1; fewer where there is no room to turn.
    """
    corners = [np.zeros(2, int)]  # cells
    halves: list[int] = []
    taken: list[np.ndarray] = []  # rectangles, cells
    heading = 0  # quarter turns
    while len(halves) < pieces:
        drawn = _draw_piece(rng, corners[-1], heading, taken)
        if drawn is None:
            break
        end, half, rectangle = drawn
        corners.append(end)
        halves.append(half)
        taken.append(rectangle)
        heading = (heading + int(rng.choice((-1, 1)))) % 4
    rooms = [
        _room(rng, corner) for corner in corners[1:-1] if rng.random() < 0.35
    ]
    cells = [*taken, *rooms]
    return FloorPlan(
        tuple(tuple(float(edge * CELL) for edge in one) for one in cells),  # type: ignore[misc]
        tuple(_walls(cells)),
        np.array(corners) * CELL,
        tuple(2 * half * CELL for half in halves),
    )


def _draw_piece(
    rng: np.random.Generator, start: np.ndarray, heading: int, taken: list[np.ndarray]
) -> tuple[np.ndarray, int, np.ndarray] | None:
    """Return end, half width and rectangle of a piece that meets only the one before it."""
    step = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)][heading])
    for _ in range(20):
        length, half = int(rng.integers(28, 61)), int(rng.integers(5, 8))
        end = start + step * length
        low, high = np.minimum(start, end) - half, np.maximum(start, end) + half
        rectangle = np.concatenate([low, high])
        grown = rectangle + np.array([-1, -1, 1, 1]) * _MARGIN
        if not any(_overlap(grown, other) for other in taken[:-1]):
            return end, half, rectangle
    return None


def _room(rng: np.random.Generator, corner: np.ndarray) -> np.ndarray:
    half = rng.integers(10, 16, 2)
    return np.concatenate([corner - half, corner + half])


def _overlap(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one[:2] < other[2:]).all() and (other[:2] < one[2:]).all())


def _walls(rectangles: list[np.ndarray]) -> list[Wall]:
    """Return the boundary of the union of rectangles, in cells, as straight pieces in m."""
    every = np.array(rectangles)
    origin = every[:, :2].min(0) - 1
    size = every[:, 2:].max(0) + 1 - origin
    free = np.zeros(size, bool)
    for x0, y0, x1, y1 in every - np.tile(origin, 2):
        free[x0:x1, y0:y1] = True
    walls = []
    for low, high, flipped in (
        (free[:, :-1] < free[:, 1:], free[:, :-1] > free[:, 1:], False),
        ((free[:-1] < free[1:]).T, (free[:-1] > free[1:]).T, True),
    ):
        for edges, inside_is_beyond in ((low, True), (high, False)):
            for along0, along1, across in _runs(edges):
                ends = [np.array([along, across + 1]) for along in (along0, along1)]
                if flipped:
                    ends = [end[::-1] for end in ends]
                first, second = ((end + origin) * CELL for end in ends)
                if inside_is_beyond == flipped:
                    first, second = second, first
                walls.append(Wall(
                    (float(first[0]), float(first[1])), (float(second[0]), float(second[1]))))
    return walls


def _runs(edges: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the runs of True along the first axis: start, end, place on the second axis."""
    padded = np.pad(edges, ((1, 1), (0, 0))).astype(np.int8)
    changes = np.diff(padded, axis=0)
    runs = []
    for across in range(edges.shape[1]):
        starts = np.flatnonzero(changes[:, across] == 1)
        ends = np.flatnonzero(changes[:, across] == -1)
        runs += [(int(a), int(b), across) for a, b in zip(starts, ends, strict=True)]
    return runs
