"""Requests that set parameters: those that belong together are set together or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter as RosParameter
from rclpy.parameter_service import ParameterService

if TYPE_CHECKING:
    from rcl_interfaces.srv import SetParameters
    from rclpy.node import Node

    _Base = Node
else:
    _Base = object

RELATED = (
    ('enter_count', 'enter_window'),
    ('false_alarms_per_hour', 'evidence_rate'),
)  # of which one limits the other


class RelatedParameters(_Base):
    """Has a node of rclpy set related parameters of one request together; a mixin.

    rclpy sets each parameter of a ``set_parameters`` request by itself, so that of two values that
    fit each other one may be refused and the other one taken, whatever their order.
    """

    def set_parameters(
        self, parameter_list: Sequence[RosParameter]
    ) -> list[SetParametersResult]:
        """Set parameters, those of a group in ``RELATED`` together; return each one's result."""
        results: dict[int, SetParametersResult] = {}
        for places in _grouped([parameter.name for parameter in parameter_list]):
            result = self.set_parameters_atomically([parameter_list[place] for place in places])
            results.update((place, result) for place in places)
        return [results[place] for place in range(len(parameter_list))]

    def set_parameters_atomically(
        self, parameter_list: Sequence[RosParameter]
    ) -> SetParametersResult:
        """Set all parameters or none; those that are deleted may be set again."""
        unknown = [p.name for p in parameter_list if not self.has_parameter(p.name)]
        if unknown:
            lines = self.describe_unknown(unknown)
            reason = '; '.join(lines) or f'parameter {unknown[0]} is not declared'
            return SetParametersResult(successful=False, reason=reason)
        result = super().set_parameters_atomically(list(parameter_list))
        if result.successful:
            for parameter in parameter_list:
                if not self.has_parameter(parameter.name):
                    self.declare_again(parameter.name)
        return result

    def declare_again(self, name: str) -> None:
        """Declare a parameter that a request has deleted."""
        raise NotImplementedError

    def describe_unknown(self, names: Sequence[str]) -> list[str]:
        """Return a line for each name that is none of the node's parameters'."""
        raise NotImplementedError


class RelatedParametersService(ParameterService):
    """The parameter services of a node with ``RelatedParameters``."""

    def _set_parameters_callback(
        self, request: SetParameters.Request, response: SetParameters.Response
    ) -> SetParameters.Response:
        node: Any = self._get_node()
        response.results = node.set_parameters(
            [RosParameter.from_parameter_msg(parameter) for parameter in request.parameters]
        )
        return response


def together(names: Iterable[str], reason: str) -> str:
    """Return what else a refused request has to hold; nothing if it lacks nothing.

    Args:
        names: Full names of the parameters that it holds.
        reason: For which it is refused.
    """
    for group in RELATED:
        held = [name for name in names if _last(name) in group]
        lacking = set(group) - {_last(name) for name in held}
        if held and lacking and all(name in reason for name in group):
            prefix = held[0].removesuffix(_last(held[0]))
            return f'; set {" and ".join(prefix + name for name in group)} in one request'
    return ''


def _grouped(names: Sequence[str]) -> list[list[int]]:
    """Return the places of the names, those of related ones in one list."""
    groups: dict[object, list[int]] = {}
    for place, name in enumerate(names):
        group = next((group for group in RELATED if _last(name) in group), None)
        groups.setdefault(group or place, []).append(place)
    return list(groups.values())


def _last(name: str) -> str:
    return name.rpartition('.')[2]
