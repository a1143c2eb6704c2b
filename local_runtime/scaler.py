"""How many instances a service should have: its demand, the autoscaler's rules and the bounds together."""

from __future__ import annotations

from local_runtime.activator.throttle import Throttle
from local_runtime.autoscaler import Autoscaler, AutoscalerSpec, panic_window_s, resolve_target
from local_runtime.bounds import Bounds, Scale, decide_scale, first_scale
from local_runtime.demand import Demand
from local_runtime.manifests import ClusterSettings, Service


class Scaler:
    """Decides for one service; pure but for what it reads of the throttle."""

    def __init__(self, service: Service, throttle: Throttle, cluster: ClusterSettings, now_s: float) -> None:
        scaling = service.scaling
        self._bounds = build_bounds(service, cluster)
        self.demand = Demand(
            throttle,
            scaling.metric,
            stable_s=scaling.window_s,
            panic_s=panic_window_s(scaling.window_s, scaling.panic_window_percent),
        )
        self._autoscaler = Autoscaler(build_spec(service, cluster), 0, now_s)
        #: The last decision.
        self.scale: Scale = first_scale(self._bounds, now_s)

    @property
    def in_panic(self) -> bool:
        """Whether it scales up only."""
        return self._autoscaler.panic_since is not None

    def decide(self, now_s: float, ready: int) -> Scale:
        """Decide how many instances there shall be."""
        stable, panic = self.demand.averages(now_s) or (None, None)
        decision = self._autoscaler.scale(now_s, ready, stable, panic)
        self.scale = decide_scale(self._bounds, self.scale, decision, ready_pods=ready, now_s=now_s)
        return self.scale


def build_spec(service: Service, cluster: ClusterSettings) -> AutoscalerSpec:
    """Build what the autoscaler aims at, from a manifest and what holds for the whole cluster."""
    scaling = service.scaling
    if scaling.metric == "rps":
        target, total = resolve_target(
            0, scaling.target, scaling.target_utilization_percent, cluster.rps_target_default
        )
    else:
        target, total = resolve_target(
            service.spec.template.spec.container_concurrency,
            scaling.target,
            scaling.target_utilization_percent,
            cluster.concurrency_target_default,
        )
    return AutoscalerSpec(
        target_value=target,
        total_value=total,
        target_burst_capacity=scaling.target_burst_capacity,
        panic_threshold=scaling.panic_threshold_percent / 100.0,
        max_scale_up_rate=cluster.max_scale_up_rate,
        max_scale_down_rate=cluster.max_scale_down_rate,
        stable_window_s=scaling.window_s,
        scale_down_delay_s=scaling.scale_down_delay_s,
        activation_scale=scaling.activation_scale,
    )


def build_bounds(service: Service, cluster: ClusterSettings) -> Bounds:
    """Build what bounds the scale."""
    scaling = service.scaling
    return Bounds(
        min_scale=scaling.min_scale,
        max_scale=scaling.max_scale,
        initial_scale=scaling.initial_scale,
        stable_window_s=scaling.window_s,
        grace_period_s=cluster.scale_to_zero_grace_period_s,
        retention_s=scaling.retention_s,
        scale_to_zero=cluster.enable_scale_to_zero,
    )
