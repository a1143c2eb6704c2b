"""What stands in front of a service's instances: holds requests, deals them out, and hands them on."""

from local_runtime.activator.deadline import Timeouts
from local_runtime.activator.server import Activator
from local_runtime.activator.throttle import Lease, Limits, Load, QueueFull, Throttle

__all__ = ["Activator", "Lease", "Limits", "Load", "QueueFull", "Throttle", "Timeouts"]
