"""From a folder of manifests to what they describe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from local_runtime.manifests.cluster import NAMESPACE, ClusterSettings
from local_runtime.manifests.container import Container
from local_runtime.manifests.documents import Document, parse_documents
from local_runtime.manifests.environment import resolve_environment
from local_runtime.manifests.maps import ConfigMap, Namespace, Secret
from local_runtime.manifests.mistakes import NO_VALUE, describe_mistake, describe_validation
from local_runtime.manifests.overrides import apply_overrides
from local_runtime.manifests.parts import Path as DocumentPath
from local_runtime.manifests.service import Service
from local_runtime.manifests.sources import ContainerSource, PingSource
from shared.errors import BadConfig

Manifest: TypeAlias = Service | PingSource | ContainerSource | ConfigMap | Secret | Namespace

_KINDS: dict[tuple[str, str], type[Manifest]] = {
    ("serving.knative.dev/v1", "Service"): Service,
    ("sources.knative.dev/v1", "PingSource"): PingSource,
    ("sources.knative.dev/v1", "ContainerSource"): ContainerSource,
    ("v1", "ConfigMap"): ConfigMap,
    ("v1", "Secret"): Secret,
    ("v1", "Namespace"): Namespace,
}
_KUSTOMIZATIONS = frozenset({"kustomization.yaml", "kustomization.yml"})
_CONTAINER = ("spec", "template", "spec", "containers", 0)


@dataclass(frozen=True, kw_only=True)
class Manifests:
    """Everything a folder of manifests describes, each kind in the order of file names."""

    services: tuple[Service, ...] = ()
    ping_sources: tuple[PingSource, ...] = ()
    container_sources: tuple[ContainerSource, ...] = ()
    config_maps: tuple[ConfigMap, ...] = ()
    secrets: tuple[Secret, ...] = field(default=(), repr=False)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    #: Where each was read, by kind and name.
    documents: dict[tuple[str, str], Document] = field(default_factory=dict, repr=False, compare=False)

    def environment(self, container: Container) -> dict[str, str]:
        """Return the variables of a container of these manifests; values of Secrets are among them, plain.

        Raises:
            BadConfig: What is referred to is not there.
        """
        owner = next((owner for owner in self._owners() if owner.container is container), None)
        namespace = "default" if owner is None else owner.metadata.namespace

        return resolve_environment(
            container,
            [m for m in self.config_maps if m.metadata.namespace == namespace],
            [s for s in self.secrets if s.metadata.namespace == namespace],
            lambda path, reason: self.mistake(owner, (*_CONTAINER, *path), reason),
        )

    def mistake(
        self, owner: Manifest | None, path: DocumentPath, reason: str, value: object = NO_VALUE
    ) -> BadConfig:
        """Build the error about a value that turned out wrong later: it names file, path, value and line."""
        document = None if owner is None else self.documents.get((owner.kind, owner.metadata.name))
        return describe_mistake(document or Document(file="the manifests", data={}), path, reason, value)

    def check_references(self) -> None:
        """Check that every variable of every container has a value.

        Raises:
            BadConfig: What is referred to is not there.
        """
        for owner in self._owners():
            self.environment(owner.container)

    def _owners(self) -> list[Service | ContainerSource]:
        return [*self.services, *self.container_sources]


def read_manifests(folder: Path, overrides: Iterable[str] = ()) -> Manifests:
    """Read every *.yaml and *.yml of a folder, kustomization.yaml left out.

    Args:
        folder: Where the files are.
        overrides: Each `NAME.KEY=VALUE` of `--set`, applied in their order before anything is checked.

    Raises:
        BadConfig: Not readable, not understood, a name used twice, a reference to what is not there, or
            no Service at all.
    """
    files = sorted(f for f in folder.glob("*.y*ml") if f.suffix in {".yaml", ".yml"})
    files = [f for f in files if f.name not in _KUSTOMIZATIONS]
    if not files:
        raise BadConfig(f"there are no manifests (*.yaml) in {folder}{_hint(folder)}")
    documents = [document for file in files for document in parse_documents(_read(file), file.name)]
    manifests = _build(apply_overrides(documents, overrides), str(folder))
    if not manifests.services:
        raise BadConfig(f"{folder} has no Service: there is nothing to start{_hint(folder)}")
    manifests.check_references()
    return manifests


def parse_manifests(text: str, file_name: str) -> list[Manifest]:
    """Parse the documents of one file, each by itself.

    Raises:
        BadConfig: Names the file, the path in the document and the value.
    """
    parsed = _parse(parse_documents(text, file_name))
    return [manifest for _, manifest in parsed]


def _hint(folder: Path) -> str:
    """Tell what to do with a folder that only kustomize can read."""
    if not any((folder / name).exists() for name in _KUSTOMIZATIONS):
        return ""
    return f" (kustomization.yaml is not read: kustomize build {folder} writes what it stands for)"


def _build(documents: Sequence[Document], folder: str) -> Manifests:
    found = _parse(documents)
    seen: dict[tuple[str, str], Document] = {}
    for document, manifest in found:
        identity = (manifest.kind, manifest.metadata.name)
        if isinstance(manifest, ConfigMap | Secret):
            is_cluster = isinstance(manifest, ConfigMap) and manifest.cluster is not None
            namespace = NAMESPACE if is_cluster else manifest.metadata.namespace
            identity = (manifest.kind, f"{namespace}/{manifest.metadata.name}")
        if identity in seen:
            raise BadConfig(
                f"{folder}: there are two of kind {identity[0]} named {identity[1]!r}, "
                f"in {seen[identity].file} and {document.file}"
            )
        seen[identity] = document
    resources = [manifest for _, manifest in found]
    return Manifests(
        services=tuple(r for r in resources if isinstance(r, Service)),
        ping_sources=tuple(r for r in resources if isinstance(r, PingSource)),
        container_sources=tuple(r for r in resources if isinstance(r, ContainerSource)),
        config_maps=tuple(r for r in resources if isinstance(r, ConfigMap)),
        secrets=tuple(r for r in resources if isinstance(r, Secret)),
        cluster=_find_cluster(resources),
        documents=seen,
    )


def _parse(documents: Sequence[Document]) -> list[tuple[Document, Manifest]]:
    """Parse documents, those first that others depend on."""
    models = [_find_model(document) for document in documents]
    parsed: dict[int, Manifest] = {}
    for is_first in (True, False):
        cluster = _find_cluster(parsed.values())
        for i, (document, model) in enumerate(zip(documents, models, strict=True)):
            if (model is ConfigMap) == is_first:
                parsed[i] = _validate(document, model, cluster)
    return [(document, parsed[i]) for i, document in enumerate(documents)]


def _find_cluster(resources: Iterable[Manifest]) -> ClusterSettings:
    found = (r.cluster for r in resources if isinstance(r, ConfigMap))
    return next((cluster for cluster in found if cluster is not None), ClusterSettings())


def _find_model(document: Document) -> type[Manifest]:
    data = document.data
    if not isinstance(data, dict):
        raise BadConfig(f"{document.file}: expected a Kubernetes resource, not a {type(data).__name__}")
    for key in ("apiVersion", "kind"):
        if not isinstance(data.get(key), str):
            raise describe_mistake(document, (key,), "expected a string, as every Kubernetes resource has")
    version, kind = data["apiVersion"], data["kind"]
    model = _KINDS.get((version, kind))
    if model is None:
        kinds = ", ".join(f"{kind} of {version}" for version, kind in _KINDS)
        raise describe_mistake(
            document, ("kind",), f"{kind!r:.60} of {version!r:.60} is not run locally, only {kinds}"
        )
    return model


def _validate(document: Document, model: type[Manifest], cluster: ClusterSettings) -> Manifest:
    try:
        return model.model_validate(document.data, context=cluster)
    except ValidationError as exc:
        # Not chained: what pydantic says quotes values, which may be of a Secret.
        raise describe_validation(document, exc, model) from None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadConfig(f"{file.name}: cannot be read: {exc}") from exc
