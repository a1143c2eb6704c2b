"""The kinds that are run: Service, PingSource and ContainerSource."""

from __future__ import annotations

import json
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from local_runtime.cron import Schedule, parse_schedule, parse_timezone
from local_runtime.manifests.container import FunctionContainer, SourceContainer
from local_runtime.manifests.parts import (
    NOTHING,
    Many,
    Part,
    Resource,
    TemplateMetadata,
    build_mistake,
    decode_base64,
)
from local_runtime.manifests.scaling import AUTOSCALING, ClusterSettings, Scaling, parse_scaling

#: Knative's default (its ConfigMap config-defaults), of the begin of an answer too.
_DEFAULT_TIMEOUT_S = 300
_VISIBILITY = "networking.knative.dev/visibility"
_JSON = "application/json"
_Seconds = Annotated[int, Field(ge=0, le=600)]
_T = TypeVar("_T")


class _Pod(Part):
    # Where a cluster puts it, and with which rights.
    READ_PAST = (
        "affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks hostAliases hostIPC"
        " hostNetwork hostPID imagePullSecrets nodeSelector priorityClassName runtimeClassName schedulerName"
        " securityContext serviceAccountName shareProcessNamespace tolerations topologySpreadConstraints"
        " volumes"
    )


class RevisionSpec(_Pod):
    """What every instance of a revision is like."""

    containers: Annotated[Many[FunctionContainer], Field(min_length=1, max_length=1)]
    #: Requests at once per instance; 0: no limit.
    container_concurrency: Annotated[int, Field(ge=0, le=1000)] = 0
    #: How long a request may take, waiting included.
    timeout_s: Annotated[_Seconds, AfterValidator(lambda s: s or _DEFAULT_TIMEOUT_S)] = _DEFAULT_TIMEOUT_S
    #: How long an answer may take to begin; None: as long as the request may take.
    response_start_timeout_s: Annotated[_Seconds | None, Field(validate_default=True)] = None
    #: How long nothing may come of an answer that has begun; None: any time.
    idle_timeout_s: _Seconds | None = None

    @field_validator("response_start_timeout_s", "idle_timeout_s")
    @classmethod
    def _check_timeout(cls, value: int | None, info: ValidationInfo) -> int | None:
        timeout_s = info.data.get("timeout_s", _DEFAULT_TIMEOUT_S)
        if value is None:
            # Knative's own default holds for the begin of an answer where timeoutSeconds is more than that.
            return _DEFAULT_TIMEOUT_S if timeout_s > _DEFAULT_TIMEOUT_S else None
        if value > timeout_s:
            raise ValueError(f"expected at most timeoutSeconds, {timeout_s}")
        return value or None


class _Template(Part, Generic[_T]):
    metadata: TemplateMetadata = TemplateMetadata()
    spec: _T


class _ServiceSpec(Part):
    #: Locally there is one revision, which has all requests.
    READ_PAST = "traffic"
    template: _Template[RevisionSpec]


class Service(Resource):
    """A function: serving.knative.dev/v1 Service."""

    spec: _ServiceSpec
    _scaling: Scaling = PrivateAttr(default_factory=Scaling)

    @property
    def container(self) -> FunctionContainer:
        """The container that runs."""
        return self.spec.template.spec.containers[0]

    @property
    def scaling(self) -> Scaling:
        """How it scales, the cluster's settings where it does not say."""
        return self._scaling

    @property
    def revision_name(self) -> str:
        """The name of its one revision."""
        return self.spec.template.metadata.name or f"{self.metadata.name}-00001"

    @property
    def is_cluster_local(self) -> bool:
        """Whether it is kept off the public gateway."""
        return self.metadata.labels.get(_VISIBILITY) == "cluster-local"

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Service:
        cluster = info.context if isinstance(info.context, ClusterSettings) else ClusterSettings()
        self._scaling = parse_scaling(self.spec.template.metadata.annotations, cluster)
        for key, value in self.metadata.annotations.items():
            if key.startswith(AUTOSCALING):
                expected = "belongs under spec.template.metadata.annotations"
                raise build_mistake(("metadata", "annotations", key), value, expected)
        visibility = self.metadata.labels.get(_VISIBILITY, "cluster-local")
        if visibility != "cluster-local":
            expected = "expected cluster-local or no such label"
            raise build_mistake(("metadata", "labels", _VISIBILITY), visibility, expected)
        if not self.revision_name.startswith(f"{self.metadata.name}-"):
            expected = f"expected a name that begins with {self.metadata.name}-"
            raise build_mistake(("spec", "template", "metadata", "name"), self.revision_name, expected)
        return self


class _Reference(Part):
    api_version: Literal["serving.knative.dev/v1"]
    kind: Literal["Service"]
    name: Annotated[str, Field(min_length=1)]
    namespace: str = ""


class Sink(Part):
    """Where a source sends its events: a Service, an address, or a path below a Service's address."""

    READ_PAST = "audience"
    ref: _Reference | None = None
    uri: str = ""
    ca_certs: Annotated[str, Field(alias="CACerts")] = ""

    @model_validator(mode="after")
    def _check_some(self) -> Sink:
        if self.ref is None and not self.uri.startswith(("http://", "https://")):
            raise ValueError("expected a ref or an absolute uri")
        if self.ref is not None and self.uri and not self.uri.startswith("/"):
            raise build_mistake(("uri",), self.uri, "expected a path such as /events beside a ref")
        return self


class _CloudEventOverrides(Part):
    #: Attributes beside those of the standard.
    extensions: dict[Annotated[str, Field(pattern="^[a-zA-Z0-9]+$")], str] = NOTHING


class _SourceSpec(Part):
    sink: Sink
    ce_overrides: _CloudEventOverrides = _CloudEventOverrides()


class PingSpec(_SourceSpec):
    """The spec of a PingSource."""

    schedule: str = "* * * * *"
    #: Empty: UTC, or the one the schedule begins with.
    timezone: str = ""
    content_type: str = ""
    data: str = ""
    data_base64: str = ""

    @model_validator(mode="after")
    def _check(self) -> PingSpec:
        if self.data and self.data_base64:
            raise build_mistake(("dataBase64",), self.data_base64, "exclude each other: data and dataBase64")
        data = "dataBase64" if self.data_base64 else "data"
        for alias, value, check in (
            ("timezone", self.timezone, lambda: parse_timezone(self.timezone or "UTC")),
            ("schedule", self.schedule, self.read_schedule),
            (data, self.data_base64 or self.data, self._check_body),
        ):
            try:
                check()
            except ValueError as exc:
                raise build_mistake((alias,), value, str(exc)) from None
        return self

    def read_schedule(self) -> Schedule:
        """Return when it is due; raises ValueError where that cannot be read."""
        # A time zone that the manifest does not name may stand in the schedule.
        return parse_schedule(self.schedule, self.timezone if "timezone" in self.model_fields_set else "")

    def read_body(self) -> bytes:
        """Return the body of every event; raises ValueError where it is not base64."""
        return decode_base64(self.data_base64) if self.data_base64 else self.data.encode()

    def _check_body(self) -> None:
        body = self.read_body()
        if self.content_type != _JSON or not body:
            return
        try:
            value = json.loads(body)
            # NaN is none of JSON's.
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError) as exc:
            raise ValueError(f"data of {_JSON} is not JSON: {exc}") from None
        if not isinstance(value, dict | None):
            # pydantic takes no other error for a mistake.
            raise ValueError(f"data of {_JSON} must be a JSON object")  # noqa: TRY004


class PingSource(Resource):
    """A cron trigger: sources.knative.dev/v1 PingSource."""

    spec: PingSpec


class SourcePod(_Pod):
    """The pod of a ContainerSource: all that Kubernetes knows."""

    READ_PAST = (
        f"{_Pod.READ_PAST} hostUsers hostname nodeName os overhead preemptionPolicy priority readinessGates"
        " resources restartPolicy serviceAccount setHostnameAsFQDN subdomain terminationGracePeriodSeconds"
    )
    containers: Annotated[Many[SourceContainer], Field(min_length=1, max_length=1)]


class _ContainerSpec(_SourceSpec):
    template: _Template[SourcePod]


class ContainerSource(Resource):
    """A program that sends events to K_SINK: sources.knative.dev/v1 ContainerSource."""

    spec: _ContainerSpec

    @property
    def container(self) -> SourceContainer:
        """The container that runs."""
        return self.spec.template.spec.containers[0]


class Namespace(Resource):
    """A namespace: accepted, and without meaning on one machine."""

    READ_PAST = f"{Resource.READ_PAST} spec"
