"""Velocity gates for the tests."""

from __future__ import annotations

from nav_monitor_ros.decision.velocity_gate import GateReason, GateRules, Velocity, VelocityGate

FORWARD = Velocity((1.0, 0.0, 0.0), (0.0, 0.0, 0.5))
TIMEOUT = 0.5
RAMP = {'stop_mode': 'ramp', 'linear_deceleration': 1.0, 'angular_deceleration': 1.0}


def gate(**rules) -> VelocityGate:
    return VelocityGate(GateRules(alert_timeout=TIMEOUT, **rules), 0.0)


def open_gate(now: float = 0.0, **rules) -> VelocityGate:
    """Return a gate that passes commands at ``now``."""
    opened = gate(**rules)
    opened.alert_received(False, now)
    if opened.rules.latch:
        opened.reset(now)
    assert opened.update(now) is GateReason.PASSING
    return opened


def components(velocity: Velocity) -> tuple[float, ...]:
    return (*velocity.linear, *velocity.angular)
