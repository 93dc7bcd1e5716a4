"""Frames of a camera at 30 Hz for the alert's state machine."""

from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.evidence import FrameEvidence

PERIOD = 1 / 30


def frame(flagged):
    """Return the evidence of a clearly strange or clearly normal frame."""
    return FrameEvidence(0.0005, True, 300.0) if flagged else FrameEvidence(0.6, False, 0.5)


class Stream:
    """State machine that receives frames at 30 Hz."""

    def __init__(self, **rules):
        self.now = 100.0
        self.frame = 0
        # With counting, it is obvious when the alert is due; test_evidence.py tests e-values.
        rules = {'evidence': 'k_of_n', **rules}
        self.machine = AlertMachine(AlertRules(**rules), self.now)
        self.machine.activate(True, self.now)

    def play(self, flags, *, pixels=None, publisher=None):
        """Play one frame per flag; return the reason after each frame."""
        reasons = []
        for flagged in flags:
            self.now += PERIOD
            self.frame += 1
            self.machine.image_arrived(self.now, publisher=publisher)
            self.machine.frame_judged(
                frame(flagged),
                int(self.now * 1e9),
                self.frame if pixels is None else pixels,
                self.now,
            )
            reasons.append(self.look().reason)
        return reasons

    def look(self, after=0.0):
        self.now += after
        return self.machine.alert(self.now)
