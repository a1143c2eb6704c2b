"""How a Service scales: annotations autoscaling.knative.dev/..., over the ConfigMap config-autoscaler."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final, TypeAlias, TypeVar

from local_runtime.manifests.parts import NO_VALUE, Path, build_mistake, suggest

#: The ConfigMap's name, and the only namespace in which Knative reads it.
CLUSTER_NAME = "config-autoscaler"
CLUSTER_NAMESPACE = "knative-serving"
AUTOSCALING = "autoscaling.knative.dev/"
#: Where the annotations of a Service's revisions are.
ANNOTATIONS: Path = ("spec", "template", "metadata", "annotations")
_KPA: Final = "kpa.autoscaling.knative.dev"
_T = TypeVar("_T")
#: Reads a value as Go writes it, not Python; raises ValueError, which says what is expected.
_Reader: TypeAlias = Callable[[str], Any]
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_FLOAT = re.compile(rf"[+-]?{_NUMBER}([eE][+-]?\d{{1,3}})?", re.ASCII)
_STEP = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DURATION = re.compile(rf"[+-]?(0|({_STEP.pattern})+)", re.ASCII)
_SECONDS = {"ns": "1e-9", "ms": "1e-3", "s": "1", "m": "60", "h": "3600"}


def _parse_integer(text: str) -> int:
    if re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII) is None or not -(2**31) <= int(text) < 2**31:
        raise ValueError('expected a whole number such as "2"')
    return int(text)


def _parse_float(text: str) -> float:
    if _FLOAT.fullmatch(text) is None or math.isinf(float(text)):
        raise ValueError('expected a number such as "70" or "0.5"')
    return float(text)


def parse_duration_s(text: str) -> float:
    """Read a duration as Go writes it, `1m30s`, into seconds; a bare number is none."""
    if _DURATION.fullmatch(text) is None:
        raise ValueError('expected a duration with its unit, such as "90s", "1m30s" or "500ms"')
    steps = [Decimal(number) * Decimal(_SECONDS.get(unit, "1e-6")) for number, unit in _STEP.findall(text)]
    return float(sum(steps, Decimal(0))) * (-1 if text.startswith("-") else 1)


def _parse_share(text: str) -> float:
    value = _parse_float(text)
    # Knative's own, older reading: up to 1 it is a fraction.
    return value if value > 1 else value * 100


def _reader(parse: _Reader, is_right: Callable[[Any], bool], expected: str) -> _Reader:
    def read(text: str) -> Any:
        value = parse(text)
        if not is_right(value):
            raise ValueError(f"expected {expected}")
        return value

    return read


def _within(least: float, most: float = math.inf) -> Callable[[float], bool]:
    return lambda value: least <= value <= most


_BOOL = _reader({"true": True, "false": False}.get, lambda value: value is not None, '"true" or "false"')
_CLASS = _reader(str, lambda text: text == _KPA, _KPA)
_METRIC = _reader(str, lambda text: text in {"concurrency", "rps"}, "concurrency or rps")
_AGGREGATION = _reader(str, lambda text: text == "linear", "linear")
_COUNT = _reader(_parse_integer, _within(0), "at least 0")
_ACTIVATION = _reader(_parse_integer, _within(2), "at least 2")
_CAPACITY = _reader(_parse_float, lambda value: value >= 0 or value == -1, "0 or more, or -1 for any number")
_PERCENT = _reader(_parse_float, _within(1, 100), "1 to 100")
_SHARE = _reader(_parse_share, _within(0.01, 100), "0.01 to 100")
_THRESHOLD = _reader(_parse_float, _within(110, 1000), "110 to 1000")
_TARGET = _reader(_parse_float, _within(0.01), "at least 0.01")
_LEAST_ONE = _reader(_parse_float, _within(1), "at least 1")
_RATE = _reader(_parse_float, lambda value: value > 1, "more than 1")
_GRACE = _reader(parse_duration_s, lambda value: value > 0, "more than 0s")
_RETENTION = _reader(parse_duration_s, _within(0, 3600), "0s to 1h")
_WHOLE = _reader(parse_duration_s, lambda value: value == round(value), "whole seconds")
_DELAY = _reader(_WHOLE, _within(0, 3600), "0s to 1h")
_WINDOW = _reader(_WHOLE, _within(6, 3600), "6s to 1h")


def _setting(key: str, default: _T, read: _Reader) -> _T:
    """Make a field: its key in the manifest, and what reads its value."""
    found: _T = field(default=default, metadata={"key": key, "read": read})
    return found


@dataclass(frozen=True, kw_only=True)
class _Common:
    """What the cluster says for all Services, and each of them for itself; the defaults are Knative's."""

    #: -1: any number.
    target_burst_capacity: float = _setting("target-burst-capacity", 211.0, _CAPACITY)
    panic_window_percent: float = _setting("panic-window-percentage", 10.0, _PERCENT)
    panic_threshold_percent: float = _setting("panic-threshold-percentage", 200.0, _THRESHOLD)
    initial_scale: int = _setting("initial-scale", 1, _COUNT)
    min_scale: int = _setting("min-scale", 0, _COUNT)
    #: 0: no limit.
    max_scale: int = _setting("max-scale", 0, _COUNT)
    scale_down_delay_s: float = _setting("scale-down-delay", 0.0, _DELAY)
    #: How long the last instance is kept at least.
    retention_s: float = _setting("scale-to-zero-pod-retention-period", 0.0, _RETENTION)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(_Common):
    """What holds for every Service that does not say otherwise."""

    autoscaler_class: str = _setting("pod-autoscaler-class", _KPA, _CLASS)
    enable_scale_to_zero: bool = _setting("enable-scale-to-zero", default=True, read=_BOOL)
    allow_zero_initial_scale: bool = _setting("allow-zero-initial-scale", default=False, read=_BOOL)
    max_scale_up_rate: float = _setting("max-scale-up-rate", 1000.0, _RATE)
    max_scale_down_rate: float = _setting("max-scale-down-rate", 2.0, _RATE)
    #: Percent, whether the ConfigMap says 70 or 0.7.
    target_utilization_percent: float = _setting("container-concurrency-target-percentage", 70.0, _SHARE)
    #: The total where a Service has neither a target nor a containerConcurrency.
    concurrency_target_default: float = _setting("container-concurrency-target-default", 100.0, _TARGET)
    rps_target_default: float = _setting("requests-per-second-target-default", 200.0, _TARGET)
    activator_capacity: float = _setting("activator-capacity", 100.0, _LEAST_ONE)
    #: The most that a Service may have as its max-scale; 0: anything.
    max_scale_limit: int = _setting("max-scale-limit", 0, _COUNT)
    window_s: float = _setting("stable-window", 60.0, _WINDOW)
    scale_to_zero_grace_period_s: float = _setting("scale-to-zero-grace-period", 30.0, _GRACE)


@dataclass(frozen=True, kw_only=True)
class Scaling(_Common):
    """How one Service scales."""

    autoscaler_class: str = _setting("class", _KPA, _CLASS)
    metric: str = _setting("metric", "concurrency", _METRIC)
    metric_aggregation: str = _setting("metric-aggregation-algorithm", "linear", _AGGREGATION)
    #: What one instance may have at once, or be sent per second; None: containerConcurrency or the default.
    target: float | None = _setting("target", None, _TARGET)
    target_utilization_percent: float = _setting("target-utilization-percentage", 70.0, _PERCENT)
    window_s: float = _setting("window", 60.0, _WINDOW)
    #: The least that is started from zero; 0: no such least.
    activation_scale: int = _setting("activation-scale", 0, _ACTIVATION)


def spell(annotation: str) -> str:
    """Return today's spelling of an annotation of the autoscaler: minScale is what min-scale was called."""
    return re.sub("[A-Z]", lambda letter: f"-{letter[0].lower()}", annotation)


def parse_cluster(data: Mapping[str, str]) -> ClusterSettings:
    """Read the data of config-autoscaler; raises ValidationError, whose path begins with `data`."""
    given = {key: (key, text) for key, text in data.items() if key != "_example"}
    settings = ClusterSettings(**_read(ClusterSettings, given, ("data",), ""))
    _check(settings, settings, ("data",), "")
    return settings


def parse_scaling(annotations: Mapping[str, str], cluster: ClusterSettings) -> Scaling:
    """Read the annotations of a Service's revisions; others than the autoscaler's are left alone.

    Raises:
        ValidationError: The path is that in the Service.
    """
    given = {
        spell(key).removeprefix(AUTOSCALING): (key, text)
        for key, text in annotations.items()
        # Knative reads the older spelling too, where the newer one is not there.
        if key.startswith(AUTOSCALING) and (spell(key) == key or spell(key) not in annotations)
    }
    common = {f.name for f in fields(Scaling)} & {f.name for f in fields(ClusterSettings)}
    inherited = {name: getattr(cluster, name) for name in common}
    scaling = Scaling(**inherited | _read(Scaling, given, ANNOTATIONS, AUTOSCALING))
    _check(scaling, cluster, ANNOTATIONS, AUTOSCALING)
    return scaling


def _read(
    kind: type[_Common], given: Mapping[str, tuple[str, str]], path: Path, prefix: str
) -> dict[str, Any]:
    """Read values, each by today's name of its key: the key as it is written, and the text."""
    known = {f.metadata["key"]: f for f in fields(kind)}
    values: dict[str, Any] = {}
    for name, (key, text) in given.items():
        if name not in known:
            what = "an annotation of the autoscaler" if prefix else "a setting"
            reason = f"is not {what}{suggest(key, [prefix + other for other in known])}"
            raise build_mistake((*path, key), NO_VALUE, reason)
        try:
            values[known[name].name] = known[name].metadata["read"](text)
        except ValueError as exc:
            raise build_mistake((*path, key), text, str(exc)) from None
    return values


def _check(scaling: Scaling | ClusterSettings, cluster: ClusterSettings, path: Path, prefix: str) -> None:
    """Check values against each other."""
    low, high, limit = scaling.min_scale, scaling.max_scale, cluster.max_scale_limit
    activation = scaling.activation_scale if isinstance(scaling, Scaling) else 0
    is_zero = scaling.initial_scale == 0 and not cluster.allow_zero_initial_scale
    for is_wrong, key, value, expected in (
        (0 < high < low, "max-scale", high, f"at least min-scale, {low}"),
        (limit and not 1 <= high <= limit, "max-scale", high, f"1 to max-scale-limit, {limit}"),
        (0 < activation < low, "activation-scale", activation, f"at least min-scale, {low}"),
        (0 < high < activation, "activation-scale", activation, f"at most max-scale, {high}"),
        (is_zero, "initial-scale", 0, f'at least 1, or allow-zero-initial-scale: "true" in {CLUSTER_NAME}'),
    ):
        if is_wrong:
            raise build_mistake((*path, prefix + key), str(value), f"expected {expected}")
