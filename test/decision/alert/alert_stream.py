"""A camera at 30 Hz, played to the alert's state machine."""

from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.evidence import FrameEvidence

PERIOD = 1 / 30


def frame(flagged):
    """Return what a frame says that is clearly odd, or clearly not."""
    return FrameEvidence(0.0005, True, 300.0) if flagged else FrameEvidence(0.6, False, 0.5)


class Stream:
    """Plays a camera at 30 Hz to a machine."""

    def __init__(self, **rules):
        self.now = 100.0
        self.frame = 0
        # Counting makes plain when an alert is due; e-values have their tests in test_evidence.py.
        rules = {'evidence': 'k_of_n', **rules}
        self.machine = AlertMachine(AlertRules(**rules), self.now)
        self.machine.activate(True, self.now)

    def play(self, flags, *, pixels=None, publisher=None):
        """Play one frame for each flag; return the reasons said after each."""
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
