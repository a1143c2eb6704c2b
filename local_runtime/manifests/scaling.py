"""How a Service scales: the annotations autoscaling.knative.dev/..., over the cluster's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import ValidationError

from local_runtime.manifests.cluster import KPA, LEAST_TARGET, ClusterSettings
from local_runtime.manifests.metadata import AUTOSCALING, spell
from local_runtime.manifests.numbers import (
    Reader,
    read_burst_capacity,
    read_count,
    read_delay_s,
    read_float,
    read_retention_s,
    read_window_s,
    read_word,
)
from local_runtime.manifests.parts import build_mistake, build_unknown


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How one Service scales."""

    autoscaler_class: Literal["kpa.autoscaling.knative.dev"] = "kpa.autoscaling.knative.dev"
    metric: Literal["concurrency", "rps"] = "concurrency"
    #: What one instance may have at once, or be sent per second; None: containerConcurrency or the default.
    target: float | None = None
    target_utilization_percent: float = 70.0
    #: -1: any number.
    target_burst_capacity: float = 211.0
    window_s: float = 60.0
    panic_window_percent: float = 10.0
    panic_threshold_percent: float = 200.0
    min_scale: int = 0
    #: 0: no limit.
    max_scale: int = 0
    initial_scale: int = 1
    #: The least that is started from zero; 0: no such least.
    activation_scale: int = 0
    scale_down_delay_s: float = 0.0
    #: How long the last instance is kept at least.
    retention_s: float = 0.0


#: The field and the reader of each annotation.
_ANNOTATIONS: Mapping[str, tuple[str, Reader]] = {
    "class": ("autoscaler_class", read_word(KPA)),
    "metric": ("metric", read_word("concurrency", "rps")),
    "metric-aggregation-algorithm": ("", read_word("linear")),
    "target": ("target", read_float(LEAST_TARGET)),
    "target-utilization-percentage": ("target_utilization_percent", read_float(1, 100)),
    "target-burst-capacity": ("target_burst_capacity", read_burst_capacity),
    "window": ("window_s", read_window_s),
    "panic-window-percentage": ("panic_window_percent", read_float(1, 100)),
    "panic-threshold-percentage": ("panic_threshold_percent", read_float(110, 1000)),
    "min-scale": ("min_scale", read_count(0)),
    "max-scale": ("max_scale", read_count(0)),
    "initial-scale": ("initial_scale", read_count(0)),
    "activation-scale": ("activation_scale", read_count(2)),
    "scale-down-delay": ("scale_down_delay_s", read_delay_s),
    "scale-to-zero-pod-retention-period": ("retention_s", read_retention_s),
}
ANNOTATIONS = tuple(AUTOSCALING + name for name in _ANNOTATIONS)


def parse_scaling(annotations: Mapping[str, str], cluster: ClusterSettings) -> Scaling:
    """Read the annotations of a revision; others than the autoscaler's are left alone.

    Raises:
        ValidationError: The path begins with `annotations`.
    """
    values: dict[str, Any] = {
        field.name: getattr(cluster, field.name)
        for field in fields(Scaling)
        if field.name in ClusterSettings.__dataclass_fields__
    }
    for key, text in annotations.items():
        if not key.startswith(AUTOSCALING):
            continue
        # Knative reads the older spelling too, where the newer one is not there.
        name = spell(key).removeprefix(AUTOSCALING)
        if name not in _ANNOTATIONS:
            raise build_unknown(
                ("annotations", key), "is not an annotation of the autoscaler", key, ANNOTATIONS
            )
        if spell(key) != key and spell(key) in annotations:
            continue
        field, read = _ANNOTATIONS[name]
        try:
            values[field] = read(text)
        except ValueError as exc:
            raise _mistake(key, text, str(exc)) from None
    values.pop("", None)
    scaling = Scaling(**values)
    _check(scaling, cluster)
    return scaling


def _check(scaling: Scaling, cluster: ClusterSettings) -> None:
    low, high, activation = scaling.min_scale, scaling.max_scale, scaling.activation_scale
    limit = cluster.max_scale_limit
    if high and high < low:
        raise _mistake("max-scale", str(high), f"expected at least min-scale, {low}")
    if limit and not 1 <= high <= limit:
        raise _mistake("max-scale", str(high), f"expected 1 to max-scale-limit, {limit}")
    if activation and activation < low:
        raise _mistake("activation-scale", str(activation), f"expected at least min-scale, {low}")
    if high and activation > high:
        raise _mistake("activation-scale", str(activation), f"expected at most max-scale, {high}")
    if scaling.initial_scale == 0 and not cluster.allow_zero_initial_scale:
        raise _mistake(
            "initial-scale",
            "0",
            'expected at least 1: allow-zero-initial-scale of config-autoscaler is "false"',
        )


def _mistake(key: str, text: str, reason: str) -> ValidationError:
    full = key if key.startswith(AUTOSCALING) else AUTOSCALING + key
    return build_mistake(("annotations", full), text, reason)
