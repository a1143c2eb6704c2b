"""From a folder of manifests to what they describe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from local_runtime.manifests.container import Container
from local_runtime.manifests.documents import parse_documents
from local_runtime.manifests.environment import ConfigMap, Resolver, Secret
from local_runtime.manifests.overrides import apply_overrides
from local_runtime.manifests.parts import NO_VALUE, Document
from local_runtime.manifests.parts import Path as DocumentPath
from local_runtime.manifests.resources import ContainerSource, Namespace, PingSource, Service
from local_runtime.manifests.scaling import CLUSTER_NAME, ClusterSettings
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

    @property
    def owners(self) -> tuple[Service | ContainerSource, ...]:
        """What has a container."""
        return (*self.services, *self.container_sources)

    def environment(self, container: Container) -> dict[str, str]:
        """Return the variables of a container of these manifests; values of Secrets are among them, plain.

        Raises:
            BadConfig: What is referred to is not there.
        """
        owner = next((owner for owner in self.owners if owner.container is container), None)
        namespace = "default" if owner is None else owner.metadata.namespace
        maps: list[ConfigMap | Secret] = [*self.config_maps, *self.secrets]
        here = [found for found in maps if found.metadata.namespace == namespace]
        resolver = Resolver(here, lambda path, reason: self.mistake(owner, (*_CONTAINER, *path), reason))
        return resolver.resolve(container.env_from, container.env)

    def mistake(
        self, owner: Manifest | None, path: DocumentPath, reason: str, value: object = NO_VALUE
    ) -> BadConfig:
        """Build the error about a value that turned out wrong later: it names file, path, value and line."""
        document = None if owner is None else self.documents.get((owner.kind, owner.metadata.name))
        return (document or Document(file="the manifests")).mistake(path, reason, value)


def read_manifests(folder: Path, overrides: Iterable[str] = ()) -> Manifests:
    """Read every *.yaml and *.yml of a folder, kustomization.yaml left out, changed as each `--set` says.

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
    for owner in manifests.owners:
        # Checks that what its variables refer to is there.
        manifests.environment(owner.container)
    return manifests


def parse_manifests(text: str, file_name: str) -> list[Manifest]:
    """Parse the documents of one file, each by itself.

    Raises:
        BadConfig: Names the file, the path in the document and the value.
    """
    return _parse(parse_documents(text, file_name))


def _hint(folder: Path) -> str:
    """Tell what to do with a folder that only kustomize can read."""
    if not any((folder / name).exists() for name in _KUSTOMIZATIONS):
        return ""
    return f" (kustomization.yaml is not read: kustomize build {folder} writes what it stands for)"


def _build(documents: Sequence[Document], folder: str) -> Manifests:
    found = _parse(documents)
    seen: dict[tuple[str, str], Document] = {}
    for document, manifest in zip(documents, found, strict=True):
        kind, name = manifest.kind, manifest.metadata.name
        if kind in {"ConfigMap", "Secret"} and name != CLUSTER_NAME:
            name = f"{manifest.metadata.namespace}/{name}"
        if (kind, name) in seen:
            files = f"{seen[kind, name].file} and {document.file}"
            raise BadConfig(f"{folder}: there are two of kind {kind} named {name!r}, in {files}")
        seen[kind, name] = document
    return Manifests(
        services=tuple(r for r in found if isinstance(r, Service)),
        ping_sources=tuple(r for r in found if isinstance(r, PingSource)),
        container_sources=tuple(r for r in found if isinstance(r, ContainerSource)),
        config_maps=tuple(r for r in found if isinstance(r, ConfigMap)),
        secrets=tuple(r for r in found if isinstance(r, Secret)),
        cluster=_find_cluster(found),
        documents=seen,
    )


def _parse(documents: Sequence[Document]) -> list[Manifest]:
    """Parse documents, ConfigMaps first: config-autoscaler holds for the Services."""
    models = [_find_model(document) for document in documents]
    parsed: dict[int, Manifest] = {}
    for i in sorted(range(len(documents)), key=lambda i: models[i] is not ConfigMap):
        try:
            parsed[i] = models[i].model_validate(documents[i].data, context=_find_cluster(parsed.values()))
        except ValidationError as exc:
            # Not chained: what pydantic says may quote values, which may be of a Secret.
            raise documents[i].describe(exc) from None
    return [parsed[i] for i in range(len(documents))]


def _find_cluster(resources: Iterable[Manifest]) -> ClusterSettings:
    found = (r.cluster for r in resources if isinstance(r, ConfigMap))
    return next((cluster for cluster in found if cluster is not None), ClusterSettings())


def _find_model(document: Document) -> type[Manifest]:
    data = document.data
    if not isinstance(data, dict):
        raise BadConfig(f"{document.file}: expected a Kubernetes resource, not a {type(data).__name__}")
    for key in ("apiVersion", "kind"):
        if not isinstance(data.get(key), str):
            raise document.mistake((key,), "expected a string, as every Kubernetes resource has")
    version, kind = data["apiVersion"], data["kind"]
    if (version, kind) not in _KINDS:
        kinds = ", ".join(f"{kind} of {version}" for version, kind in _KINDS)
        reason = f"{kind!r:.60} of {version!r:.60} is not run locally, only {kinds}"
        raise document.mistake(("kind",), reason)
    return _KINDS[version, kind]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadConfig(f"{file.name}: cannot be read: {exc}") from exc
