"""Settings of the whole cluster: what Knative's ConfigMap config-autoscaler says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_runtime.manifests.numbers import (
    Reader,
    read_bool,
    read_burst_capacity,
    read_count,
    read_delay_s,
    read_float,
    read_grace_s,
    read_retention_s,
    read_window_s,
    read_word,
)
from local_runtime.manifests.parts import build_mistake, build_unknown

#: The ConfigMap's name, and the only namespace in which Knative reads it.
NAME = "config-autoscaler"
NAMESPACE = "knative-serving"
KPA = "kpa.autoscaling.knative.dev"
#: The least a target can be.
LEAST_TARGET = 0.01


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """What holds for every Service that does not say otherwise; the defaults are Knative's."""

    enable_scale_to_zero: bool = True
    allow_zero_initial_scale: bool = False
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    #: Percent, whether the ConfigMap says 70 or 0.7.
    target_utilization_percent: float = 70.0
    #: The total where a Service has neither a target nor a containerConcurrency.
    concurrency_target_default: float = 100.0
    rps_target_default: float = 200.0
    #: -1: any number.
    target_burst_capacity: float = 211.0
    panic_window_percent: float = 10.0
    panic_threshold_percent: float = 200.0
    activator_capacity: float = 100.0
    initial_scale: int = 1
    min_scale: int = 0
    #: 0: no limit.
    max_scale: int = 0
    #: The most that a Service may have as its max-scale; 0: anything.
    max_scale_limit: int = 0
    window_s: float = 60.0
    scale_down_delay_s: float = 0.0
    scale_to_zero_grace_period_s: float = 30.0
    #: How long the last instance is kept at least.
    retention_s: float = 0.0


def _read_percent(text: str) -> float:
    value: float = read_float(0, 100, above=True)(text)
    # Knative's own, older reading: up to 1 it is a fraction.
    return value if value > 1 else value * 100


#: The field and the reader of each key.
_KEYS: Mapping[str, tuple[str, Reader]] = {
    "pod-autoscaler-class": ("", read_word(KPA)),
    "enable-scale-to-zero": ("enable_scale_to_zero", read_bool),
    "allow-zero-initial-scale": ("allow_zero_initial_scale", read_bool),
    "max-scale-up-rate": ("max_scale_up_rate", read_float(1, above=True)),
    "max-scale-down-rate": ("max_scale_down_rate", read_float(1, above=True)),
    "container-concurrency-target-percentage": ("target_utilization_percent", _read_percent),
    "container-concurrency-target-default": ("concurrency_target_default", read_float(LEAST_TARGET)),
    "requests-per-second-target-default": ("rps_target_default", read_float(LEAST_TARGET)),
    "target-burst-capacity": ("target_burst_capacity", read_burst_capacity),
    "panic-window-percentage": ("panic_window_percent", read_float(1, 100)),
    "panic-threshold-percentage": ("panic_threshold_percent", read_float(110, 1000)),
    "activator-capacity": ("activator_capacity", read_float(1)),
    "initial-scale": ("initial_scale", read_count(0)),
    "min-scale": ("min_scale", read_count(0)),
    "max-scale": ("max_scale", read_count(0)),
    "max-scale-limit": ("max_scale_limit", read_count(0)),
    "stable-window": ("window_s", read_window_s),
    "scale-down-delay": ("scale_down_delay_s", read_delay_s),
    "scale-to-zero-grace-period": ("scale_to_zero_grace_period_s", read_grace_s),
    "scale-to-zero-pod-retention-period": ("retention_s", read_retention_s),
}


def parse_cluster(data: Mapping[str, str]) -> ClusterSettings:
    """Read the data of config-autoscaler.

    Raises:
        ValidationError: The path begins with `data`.
    """
    values: dict[str, Any] = {}
    for key, text in data.items():
        if key == "_example":
            continue
        if key not in _KEYS:
            raise build_unknown(("data", key), "is not a setting", key, _KEYS)
        field, read = _KEYS[key]
        try:
            values[field] = read(text)
        except ValueError as exc:
            raise build_mistake(("data", key), text, str(exc)) from None
    values.pop("", None)
    settings = ClusterSettings(**values)
    if settings.initial_scale == 0 and not settings.allow_zero_initial_scale:
        raise build_mistake(("data", "initial-scale"), "0", 'needs allow-zero-initial-scale: "true"')
    limit = settings.max_scale_limit
    if limit and not 1 <= settings.max_scale <= limit:
        raise build_mistake(
            ("data", "max-scale"), str(settings.max_scale), f"expected 1 to max-scale-limit, {limit}"
        )
    return settings
