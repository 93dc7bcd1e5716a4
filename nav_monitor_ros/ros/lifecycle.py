"""Lifecycle node whose transitions report why they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.ros.process.log import QueuedLog

Work = Callable[[], None]


class ReportingLifecycleNode(LifecycleNode):
    """Lifecycle node that logs why a transition fails, and that can activate itself.

    A subclass defines ``_configure``, ``_activate``, ``_deactivate`` and ``_clean_up``, which raise
    an exception if they fail: ``NavMonitorError`` if the configuration cannot be used.
    """

    log: QueuedLog

    def __init__(self, name: str, **options: Any) -> None:
        """Create the node in the state unconfigured."""
        super().__init__(name, **options)
        self._failure = ''  # reason why a transition failed, until a later one succeeds
        self.failed_unexpectedly = False  # whether for another reason than the configuration
        self._autostart_timer: Any = None

    @property
    def failure(self) -> str:
        """Reason why the last transition failed, in one line; '' if it succeeded."""
        return self._failure

    def start_when_executed(self, clock: Clock) -> None:
        """Configure and activate the node once an executor runs it, unless somebody did before.

        Args:
            clock: Clock of the timer that does it.
        """
        self._autostart_timer = self.create_timer(0.0, self._start, clock=clock)

    # Transitions. rclpy swallows their exceptions, so each one is logged here.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Acquire what the node needs."""
        return self._transition(self._configure, mends=True)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to work."""
        result = self._transition(self._activate, mends=True)
        if result is TransitionCallbackReturn.SUCCESS:
            return super().on_activate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working."""
        result = self._transition(self._deactivate, TransitionCallbackReturn.ERROR)
        if result is TransitionCallbackReturn.SUCCESS:
            return super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release what the node has acquired."""
        return self._transition(self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release what the node has acquired, before the end."""
        return self._transition(self._clean_up)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after a failed transition."""
        return self._transition(self._clean_up)

    def _configure(self) -> None:
        raise NotImplementedError

    def _activate(self) -> None:
        raise NotImplementedError

    def _deactivate(self) -> None:
        raise NotImplementedError

    def _clean_up(self) -> None:
        raise NotImplementedError

    def _start(self) -> None:
        for transition in (self.trigger_configure, self.trigger_activate):
            transition()
            if self._failure:  # the transition has logged it
                return

    def _transition(
        self,
        work: Work,
        failure: TransitionCallbackReturn = TransitionCallbackReturn.FAILURE,
        *,
        mends: bool = False,
    ) -> TransitionCallbackReturn:
        """Do the work of a transition.

        Args:
            work: Function that does the work.
            failure: Result if the function raises.
            mends: Whether success clears the reason of an earlier failure.
        """
        if self._autostart_timer is not None:
            self._autostart_timer.cancel()  # somebody has taken charge, possibly the timer itself
        try:
            work()
        except NavMonitorError as error:
            self.failed_unexpectedly = False
            self._failure = str(error)
            self.log.error(self._failure)
        except BaseException as error:
            self.failed_unexpectedly = True
            self._failure = described(error)
            self.log.failure(work.__name__.strip('_'), error)
        else:
            if mends:
                self._failure = ''
            return TransitionCallbackReturn.SUCCESS
        return failure


def described(error: BaseException) -> str:
    """Return an error in one line, with its type unless the message is written for users."""
    text = one_line(error, 1000)
    if isinstance(error, NavMonitorError):
        return text
    name = type(error).__name__
    return name if text == name else f'{name}: {text}'
