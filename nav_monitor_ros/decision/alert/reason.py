"""The alert: True or False, its state, and the closed list of reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class State(str, Enum):
    """Whether the classifier can be trusted."""

    OK = 'OK'
    SUSPECT = 'SUSPECT'
    OOD = 'OOD'
    INVALID = 'INVALID'  # unable to judge


class Reason(str, Enum):
    """Why ``ood_alert`` is True or False: the closed list of the ROS contract."""

    IN_DISTRIBUTION = 'in_distribution'
    SUSPECT = 'suspect'
    OOD = 'ood'
    WARMING_UP = 'warming_up'
    NO_IMAGE = 'no_image'
    STALE_IMAGE = 'stale_image'
    FROZEN_IMAGE = 'frozen_image'
    LOW_INPUT_RATE = 'low_input_rate'
    BAD_IMAGE = 'bad_image'
    INFERENCE_ERROR = 'inference_error'
    INFERENCE_TIMEOUT = 'inference_timeout'
    MODEL_ERROR = 'model_error'
    INACTIVE = 'inactive'
    DISABLED = 'disabled'
    LATCHED = 'latched'

    @property
    def state(self) -> State:
        """Return the state that goes with it; most reasons mean that nothing can be judged."""
        return _STATES.get(self, State.INVALID)

    @property
    def raises_alert(self) -> bool:
        """Return whether ``ood_alert`` is True for this reason."""
        return self not in (Reason.IN_DISTRIBUTION, Reason.SUSPECT)


_STATES = {
    Reason.IN_DISTRIBUTION: State.OK,
    Reason.SUSPECT: State.SUSPECT,
    Reason.OOD: State.OOD,
    Reason.LATCHED: State.OOD,
}


@dataclass(frozen=True)
class Alert:
    """What ``ood_alert`` and ``~/ood_status`` say at one moment."""

    value: bool  # True: do not trust perception
    state: State
    reason: Reason
    detail: str = ''  # one line for a person
    since: float = field(default=0.0, compare=False)  # seconds on the caller's clock
