"""Requests that set parameters: related parameters are set together or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter as RosParameter
from rclpy.parameter_service import ParameterService

from nav_monitor_ros.errors import NavMonitorError, one_line

if TYPE_CHECKING:
    from rcl_interfaces.msg import Parameter as ParameterMessage
    from rcl_interfaces.srv import SetParameters, SetParametersAtomically
    from rclpy.node import Node

    _Base = Node
else:
    _Base = object

RELATED = (
    ('enter_count', 'enter_window'),
    ('false_alarms_per_hour', 'evidence_rate'),
)  # pairs in which one parameter limits the other


class RelatedParameters(_Base):
    """Mixin for an rclpy node that sets related parameters of one request together.

    rclpy sets each parameter of a ``set_parameters`` request separately, so that it may refuse one
    of two consistent values and accept the other one, whatever their order.
    """

    def set_parameters(
        self, parameter_list: Sequence[RosParameter]
    ) -> list[SetParametersResult]:
        """Set parameters, with each group in ``RELATED`` as a unit; return a result for each."""
        results: dict[int, SetParametersResult] = {}
        for places in _grouped([parameter.name for parameter in parameter_list]):
            result = self.set_parameters_atomically([parameter_list[place] for place in places])
            results.update((place, result) for place in places)
        return [results[place] for place in range(len(parameter_list))]

    def set_parameters_atomically(
        self, parameter_list: Sequence[RosParameter]
    ) -> SetParametersResult:
        """Set all parameters or none; deleted parameters can be set again."""
        unknown = [p.name for p in parameter_list if not self.has_parameter(p.name)]
        if unknown:
            lines = self.describe_unknown(unknown)
            reason = '; '.join(lines) or f'parameter {unknown[0]} is not declared'
            return SetParametersResult(successful=False, reason=reason)
        try:  # before rclpy checks the ranges, whose text names neither unit nor remedy
            parameter_list = [self.completed(parameter) for parameter in parameter_list]
        except NavMonitorError as error:
            return SetParametersResult(successful=False, reason=str(error))
        result = super().set_parameters_atomically(parameter_list)
        if result.successful:
            for parameter in parameter_list:
                if not self.has_parameter(parameter.name):
                    self.declare_again(parameter.name)
        return result

    def completed(self, parameter: RosParameter) -> RosParameter:
        """Return a parameter of a request with the value that takes effect.

        Raises:
            NavMonitorError: The value is invalid by itself.
        """
        return parameter

    def declare_again(self, name: str) -> None:
        """Declare a parameter that a request has deleted."""
        raise NotImplementedError

    def describe_unknown(self, names: Sequence[str]) -> list[str]:
        """Return a line for each name that is not a parameter of the node."""
        raise NotImplementedError


class ParameterRequests(ParameterService):
    """Parameter services of a node that survive malformed requests.

    In rclpy's own services, an exception that a malformed parameter causes, such as an unknown
    type, propagates to the executor. Here it becomes the result for that parameter.
    """

    def _set_parameters_callback(
        self, request: SetParameters.Request, response: SetParameters.Response
    ) -> SetParameters.Response:
        results: dict[int, SetParametersResult] = {}
        parameters: dict[int, RosParameter] = {}
        for place, message in enumerate(request.parameters):
            try:
                parameters[place] = _parameter(message)
            except NavMonitorError as error:
                results[place] = _refused(error)
        try:
            given = self._set_each(list(parameters.values()))
        except Exception as error:
            given = [_refused(error)] * len(parameters)
        results.update(zip(parameters, given, strict=True))
        response.results = [results[place] for place in range(len(request.parameters))]
        return response

    def _set_parameters_atomically_callback(
        self,
        request: SetParametersAtomically.Request,
        response: SetParametersAtomically.Response,
    ) -> SetParametersAtomically.Response:
        node: Any = self._get_node()
        try:
            parameters = [_parameter(message) for message in request.parameters]
            response.result = node.set_parameters_atomically(parameters)
        except Exception as error:
            response.result = _refused(error)
        return response

    def _set_each(self, parameters: list[RosParameter]) -> list[SetParametersResult]:
        node: Any = self._get_node()
        results = []
        for parameter in parameters:
            try:
                results.append(node.set_parameters_atomically([parameter]))
            except Exception as error:
                results.append(_refused(error))
        return results


class RelatedParametersService(ParameterRequests):
    """Parameter services of a node with ``RelatedParameters``."""

    def _set_each(self, parameters: list[RosParameter]) -> list[SetParametersResult]:
        node: Any = self._get_node()
        return list(node.set_parameters(parameters))


def _parameter(message: ParameterMessage) -> RosParameter:
    """Return a parameter of a request.

    Raises:
        NavMonitorError: The parameter is malformed.
    """
    if not message.name:  # rclpy's check for undeclared names ignores an empty one
        raise NavMonitorError('a parameter has no name')
    try:
        return RosParameter.from_parameter_msg(message)
    except Exception as error:
        known = [kind.value for kind in RosParameter.Type]
        if message.value.type not in known:
            reason = f'its type is {message.value.type}; ROS has types {min(known)} to {max(known)}'
        else:
            reason = one_line(error)
        raise NavMonitorError(f"parameter '{message.name}' cannot be read: {reason}") from error


def _refused(error: Exception) -> SetParametersResult:
    return SetParametersResult(
        successful=False, reason=one_line(str(error) or type(error).__name__)
    )


def together(names: Iterable[str], reason: str) -> str:
    """Return a hint about the parameters that a refused request lacks; '' if it lacks none.

    Args:
        names: Full names of the parameters in the request.
        reason: Reason for which it is refused.
    """
    for group in RELATED:
        held = [name for name in names if _last(name) in group]
        lacking = set(group) - {_last(name) for name in held}
        if held and lacking and all(name in reason for name in group):
            prefix = held[0].removesuffix(_last(held[0]))
            return f'; set {" and ".join(prefix + name for name in group)} in one request'
    return ''


def _grouped(names: Sequence[str]) -> list[list[int]]:
    """Return the indices of the names, with those of related names in one list."""
    groups: dict[object, list[int]] = {}
    for place, name in enumerate(names):
        group = next((group for group in RELATED if _last(name) in group), None)
        groups.setdefault(group or place, []).append(place)
    return list(groups.values())


def _last(name: str) -> str:
    return name.rpartition('.')[2]
