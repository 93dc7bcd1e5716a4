"""Encounters: one unknown object on the path of a robot, and what came of it."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from nav_monitor_ros.decision.alert.reason import Reason
from nav_monitor_ros.decision.velocity_gate import GateReason
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.sim.detectors import AlertHistory, Detector
from nav_monitor_ros.sim.loop import ClosedLoop, LoopRules, LoopStep
from nav_monitor_ros.sim.robot.footprint import gap_to_known, polygon_distance
from nav_monitor_ros.sim.robot.kinematics import Pose
from nav_monitor_ros.sim.shared_camera import SharedCamera
from nav_monitor_ros.sim.world.mjcf import CompiledWorld, compile_world
from nav_monitor_ros.sim.world.shapes import Thing
from nav_monitor_ros.sim.world.unknown_objects import UNKNOWN
from nav_monitor_ros.sim.world.world import PATH_STEP, World, draw_world

VISIBLE = 0.005  # share of the pixels from which an object counts as visible
FIRST_SEEN = (2.0, 6.0)  # m: gap between footprint and object at which it must become visible
QUIET = 2.0  # s before, during which the alert must be False
TWIN = 2.0  # s around a stop, in which the run without the object must not stop
STANDSTILL = 0.01  # m/s
APPROACH = 9.0  # m of path before the object
_LONGEST = 40.0  # s of an encounter; the approach takes 18 s
_TRIES = 200


class Outcome(str, Enum):
    """How an encounter ended, or why the draw does not count."""

    STOPPED = 'stopped'  # by the alert, before contact
    COINCIDENCE = 'coincidence'  # stopped, but so did the run without the object
    CONTACT = 'contact'
    PASSED = 'passed'  # neither, for example after a false stop in another place
    OTHER_STOP = 'other_stop'  # stopped for another reason than unusual images
    EXCLUDED_NOT_SEEN = 'excluded_not_seen'  # not first visible 2 to 6 m ahead
    EXCLUDED_ALERT = 'excluded_alert'  # the alert was not False before
    EXCLUDED_NO_CONTACT = 'excluded_no_contact'  # the robot without a monitor does not touch it

    @property
    def counts(self) -> bool:
        """Return whether it is an encounter at all."""
        return not self.name.startswith('EXCLUDED')


@dataclass(frozen=True, eq=False)
class Encounter:
    """A world with an unknown object on the path."""

    kind: str
    seed: int
    compiled: CompiledWorld
    start: int  # index in the world's path at which the robot starts

    @property
    def world(self) -> World:
        """Return the world, with the object."""
        return self.compiled.world


@dataclass(frozen=True, eq=False)
class EncounterResult:
    """What came of an encounter."""

    kind: str
    seed: int
    outcome: Outcome
    seen_time: float | None = None  # s, when the object became visible
    seen_gap: float | None = None  # m, then
    alert_gap: float | None = None  # m, at the first alert of reason ood after that
    end_time: float | None = None  # s
    end_gap: float | None = None  # m, when the robot stood still, or at contact
    end_pose: Pose | None = None  # of the robot then
    image: np.ndarray | None = None  # of the camera at the end, uint8 (height, width, 3)

    def record(self) -> dict[str, object]:
        """Return everything except the image, for JSON."""
        return {
            'kind': self.kind, 'seed': self.seed, 'outcome': self.outcome.value,
            'seen_time': self.seen_time, 'seen_gap': self.seen_gap, 'alert_gap': self.alert_gap,
            'end_time': self.end_time, 'end_gap': self.end_gap,
            'end_x': self.end_pose.x if self.end_pose else None,
            'end_y': self.end_pose.y if self.end_pose else None,
        }


def draw_encounter(
    kind: str, seed: int, *, pieces: int = 2, approach: float = APPROACH
) -> Encounter:
    """Put an object of a kind on the path of a world.

    Args:
        kind: Key of ``UNKNOWN``.
        seed: Equal arguments give equal encounters.
        pieces: Of the world's corridor; see ``draw_world``.
        approach: Path between the robot's start and the object, m; less where the path begins.

    Raises:
        NavMonitorError: There is no such kind, or MuJoCo is not installed.
    """
    if kind not in UNKNOWN:
        raise NavMonitorError(f"there is no kind '{kind}'; there are {', '.join(UNKNOWN)}")
    rng = np.random.default_rng([seed, 6, tuple(UNKNOWN).index(kind)])
    for _ in range(_TRIES):
        world = draw_world(int(rng.integers(2**31)), pieces=pieces)
        thing = UNKNOWN[kind](rng)
        places = np.flatnonzero(world.straight)
        places = places[places >= max(6.0, 0.7 * approach) / PATH_STEP]
        if not len(places):
            continue
        place = int(rng.choice(places))
        placed = _placed(rng, world, thing, place)
        if placed is not None:
            start = max(0, place - round(approach / PATH_STEP))
            return Encounter(kind, seed, compile_world(world.with_unknown(placed)), start)
    raise NavMonitorError(f'no world has room for a {kind} (seed {seed})')


def run_encounter(
    encounter: Encounter, detector: Detector, rules: LoopRules | None = None
) -> EncounterResult:
    """Run an encounter with a detector, and judge it by the definitions."""
    with closing(EncounterRuns(encounter, rules)) as runs:
        return runs.run(detector)


class EncounterRuns:
    """One encounter, run with several detectors; close it at the end.

    As long as two detectors let the robot drive alike, they share the rendered images.
    """

    def __init__(self, encounter: Encounter, rules: LoopRules | None = None) -> None:
        """Prepare the runs.

        Args:
            encounter: To run.
            rules: Timing of the loop.
        """
        self._encounter = encounter
        self._rules = rules
        self._camera = SharedCamera(encounter.compiled, encounter.seed)
        self._twin: tuple[CompiledWorld, SharedCamera] | None = None
        self._touches: bool | None = None

    def close(self) -> None:
        """Release the rendered images."""
        self._camera.close()
        if self._twin is not None:
            self._twin[1].close()

    def run(self, detector: Detector) -> EncounterResult:
        """Run the encounter with a detector, and judge it by the definitions.

        The run without a monitor comes first, because an object that it does not touch makes no
        encounter; the run without the object comes last, if the robot has stopped.
        """
        encounter = self._encounter
        if self._touches is None:
            self._touches = self._touches_unstopped()
        if not self._touches:
            return EncounterResult(encounter.kind, encounter.seed, Outcome.EXCLUDED_NO_CONTACT)
        result = self._run(detector)
        if result.outcome is Outcome.STOPPED:
            assert result.end_time is not None
            if self._twin_stops(detector, result.end_time):
                return replace(result, outcome=Outcome.COINCIDENCE)
        return result

    def _loop(self, detector: Detector | None) -> ClosedLoop:
        encounter = self._encounter
        return ClosedLoop(
            encounter.compiled, detector, seed=encounter.seed, start=encounter.start,
            rules=self._rules, shared_camera=self._camera)

    def _touches_unstopped(self) -> bool:
        """Return whether the robot touches the object first if nothing stops it."""
        for step in self._loop(None).run(_LONGEST):
            if step.touched:
                return True
            if gap_to_known(step.state.pose, self._encounter.world) <= 0:
                return False
        return False

    def _run(self, detector: Detector) -> EncounterResult:
        observed = _Observed()
        step: LoopStep | None = None
        for step in self._loop(detector).run(_LONGEST, observed.wants_share):
            outcome = observed.outcome_after(step)
            if outcome is not None:
                break
        else:
            outcome = Outcome.EXCLUDED_NOT_SEEN if observed.seen is None else Outcome.PASSED
        seen = observed.seen
        return EncounterResult(
            self._encounter.kind, self._encounter.seed, outcome,
            seen.time if seen else None, seen.gap if seen else None, observed.alert_gap,
            step.time if step else None, step.gap if step else None,
            step.state.pose if step else None, step.image if step else None)

    def _twin_stops(self, detector: Detector, stop: float) -> bool:
        """Return whether the same run without the object raises the alert around the stop."""
        encounter = self._encounter
        if self._twin is None:
            compiled = compile_world(encounter.world.with_unknown(None))
            self._twin = compiled, SharedCamera(compiled, encounter.seed)
        compiled, camera = self._twin
        loop = ClosedLoop(
            compiled, detector, seed=encounter.seed, start=encounter.start, rules=self._rules,
            shared_camera=camera)
        return any(
            step.time >= stop - TWIN and _is_ood(step) for step in loop.run(stop + TWIN))


def _placed(rng: np.random.Generator, world: World, thing: Thing, place: int) -> Thing | None:
    """Return the object on the path, or None if it does not fit there."""
    ahead = world.path[min(place + 5, len(world.path) - 1)] - world.path[place - 5]
    heading = math.atan2(ahead[1], ahead[0])
    turn = rng.uniform(-0.3, 0.3) if thing.kind in ('mirror', 'drop_off') else rng.uniform(-3, 3)
    across = rng.uniform(-0.1, 0.1)
    x, y = world.path[place] + across * np.array([-math.sin(heading), math.cos(heading)])
    placed = replace(thing, x=float(x), y=float(y), yaw=heading + float(turn))
    for hull in placed.outlines:
        if not world.plan.contains(hull).all():
            return None
        for other in (*world.doors, *world.things):
            for outline in other.outlines:
                if polygon_distance(outline, hull).min() < 0.05 or (
                        polygon_distance(hull, outline).min() < 0.05):
                    return None
    return placed


class _Observed:
    """What was observed of a run so far."""

    def __init__(self) -> None:
        self.seen: LoopStep | None = None  # when the object became visible
        self.alert_gap: float | None = None  # m, at the first alert of reason ood after that
        self._history = AlertHistory(QUIET)

    def wants_share(self, gap: float) -> bool:
        """Return whether the object may become visible at a gap in m; beyond, it is too small."""
        return self.seen is None and gap < FIRST_SEEN[1] + 1.0

    def outcome_after(self, step: LoopStep) -> Outcome | None:
        """Take the next step; return how the run has ended, or None."""
        self._history.add(step.time, step.alert is None or step.alert.value)
        if self.seen is None:
            return self._before_seen(step)
        if step.touched:
            return Outcome.CONTACT
        if _is_ood(step) and self.alert_gap is None:
            self.alert_gap = step.gap
        if abs(step.state.speed) < STANDSTILL and step.gate is not GateReason.PASSING:
            ours = step.gate is GateReason.ALERT and _is_ood(step)
            return Outcome.STOPPED if ours else Outcome.OTHER_STOP
        return None

    def _before_seen(self, step: LoopStep) -> Outcome | None:
        if step.share is None or step.share < VISIBLE:
            return Outcome.EXCLUDED_NOT_SEEN if step.touched else None
        self.seen = step
        if not FIRST_SEEN[0] <= step.gap <= FIRST_SEEN[1] or step.time < QUIET:
            return Outcome.EXCLUDED_NOT_SEEN
        return Outcome.EXCLUDED_ALERT if self._history.any else None


def _is_ood(step: LoopStep) -> bool:
    return step.alert is not None and step.alert.value and step.alert.reason is Reason.OOD


def pose_at(world: World, place: int) -> Pose:
    """Return the pose along a world's path at one of its points."""
    ahead = world.path[min(place + 5, len(world.path) - 1)] - world.path[max(place - 5, 0)]
    return Pose(
        float(world.path[place, 0]), float(world.path[place, 1]),
        math.atan2(ahead[1], ahead[0]))
