"""The OpenAPI document as a page to read: docs/api.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: What JSON is broken at.
_WIDTH = 110
_OPENING = """\
# The API

Made from the declarations in `shared/api/` by `make generate-openapi`, as [openapi.json](openapi.json) is;
query serves the same as `/swagger/spec.json`, and as a page at `/swagger/`.
"""


def build_reference(document: dict[str, Any]) -> str:
    """Write the document as Markdown: by tag each endpoint, then the errors, then the shapes."""
    return "\n".join(_Reference(document).lines()) + "\n"


class _Reference:
    """Writes one document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._components = document["components"]

    def lines(self) -> Iterator[str]:
        yield _OPENING
        yield self._document["info"]["description"]
        operations = [
            (path, method, operation)
            for path, item in self._document["paths"].items()
            for method, operation in item.items()
            if method != "servers"
        ]
        for tag in self._document["tags"]:
            yield f"\n## {tag['name']}\n\n{tag['description']}"
            for path, method, operation in operations:
                if tag["name"] in operation["tags"]:
                    yield from self._endpoint(path, method, operation)
        yield from self._errors()
        yield from self._shapes()

    def _endpoint(self, path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
        yield f"\n### {method.upper()} {path}\n"
        functions = [next(iter(s["variables"])) for s in self._document["paths"][path]["servers"]]
        role = operation["x-role"]
        yield f"{operation['summary']}. Function: {', '.join(functions)}; role: {role}."
        if "description" in operation:
            yield f"\n{operation['description']}"
        yield from self._parameters(operation["parameters"])
        if "requestBody" in operation:
            body = operation["requestBody"]
            types = ", ".join(f"`{kind}`" for kind in body["content"])
            yield f"\nBody: {body['description']} As {types}."
        yield from self._answers(operation["responses"])
        yield from self._example(operation)

    def _parameters(self, parameters: list[dict[str, Any]]) -> Iterator[str]:
        if not parameters:
            return
        yield "\n| parameter | in | type | default | is |\n|---|---|---|---|---|"
        for p in parameters:
            default = p["schema"].get("default")
            shown = "required" if p["required"] else "" if default is None else f"`{json.dumps(default)}`"
            kind = _cell(self._kind(p["schema"]))
            yield f"| `{p['name']}` | {p['in']} | {kind} | {shown} | {_cell(p['description'])} |"

    def _answers(self, responses: dict[str, Any]) -> Iterator[str]:
        yield "\n| status | answer | is |\n|---|---|---|"
        errors = []
        for status, response in responses.items():
            if "$ref" in response or int(status) >= 400:  # noqa: PLR2004
                errors.append(status)
                continue
            kinds = [_cell(self._content(kind, media)) for kind, media in response.get("content", {}).items()]
            said = [response["description"]]
            said += [f"`{name}`: {h['description']}." for name, h in response.get("headers", {}).items()]
            yield f"| {status} | {'<br>'.join(kinds) or 'no body'} | {_cell(' '.join(said))} |"
        yield f"\nErrors: {', '.join(errors)}."

    def _content(self, kind: str, media: dict[str, Any]) -> str:
        if kind != "application/json":
            return f"`{kind}`"
        schema = media["schema"]
        if "properties" not in schema:
            return self._kind(schema)
        members = [
            f"`{name}`: {self._kind(s)}" for name, s in schema["properties"].items() if name != "success"
        ]
        return ", ".join(members)

    def _example(self, operation: dict[str, Any]) -> Iterator[str]:
        samples = [sample["source"] for sample in operation.get("x-codeSamples", [])]
        if not samples:
            return
        yield f"\n```sh\n{samples[0]}\n```"
        answers = [response for status, response in operation["responses"].items() if int(status) < 400]  # noqa: PLR2004
        for response in answers:
            for kind, media in response.get("content", {}).items():
                if "example" in media:
                    json_ = kind.endswith("json") and not isinstance(media["example"], str)
                    text = _dump(media["example"]) if json_ else media["example"]
                    yield f"\n```{'json' if json_ else ''}\n{text.rstrip()}\n```"
        if samples[1:]:
            further = "\n".join(samples[1:])
            yield f"\n```sh\n{further}\n```"

    def _errors(self) -> Iterator[str]:
        yield "\n## Errors\n\n`error.code` is the word to go by, `error.message` a sentence for people.\n"
        yield "| status | code | means |\n|---|---|---|"
        rows = set()
        for item in self._document["paths"].values():
            for method, operation in item.items():
                if method == "servers":
                    continue
                for status, response in operation["responses"].items():
                    if "$ref" in response:
                        rows.add((status, response["$ref"].rpartition("/")[2]))
        rows.add(("405", "MethodNotAllowed"))
        for status, name in sorted(rows):
            response = self._components["responses"][name]
            code = response["content"]["application/json"]["example"]["error"]["code"]
            yield f"| {status} | `{code}` | {response['description']} |"

    def _shapes(self) -> Iterator[str]:
        yield "\n## Shapes"
        for name, schema in sorted(self._components["schemas"].items()):
            yield f"\n### {name}\n"
            if "description" in schema:
                yield schema["description"]
            if schema.get("additionalProperties") is True:
                yield "\nFurther members may follow."
            if "properties" in schema:
                yield "\n| member | type |\n|---|---|"
            for member, kind in schema.get("properties", {}).items():
                said = f": {kind['description']}" if "description" in kind else ""
                yield f"| `{member}` | {_cell(self._kind(kind) + said)} |"

    def _kind(self, schema: dict[str, Any]) -> str:
        """Say in a few words what a schema takes."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        if "anyOf" in schema:
            return " or ".join(self._kind(choice) for choice in schema["anyOf"])
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if values:
            return " or ".join(f"`{json.dumps(value)}`" for value in values)
        kind = str(schema.get("type", "anything"))
        if kind == "array":
            return f"list of {self._kind(schema.get('items', {}))}"
        if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            return f"object of {self._kind(schema['additionalProperties'])}"
        examples = ", ".join(f"`{example}`" for example in schema.get("examples", ()))
        return f"{kind}, such as {examples}" if examples else kind


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _dump(value: Any, indent: str = "") -> str:
    """Write JSON, as much on a line as fits."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not value or not isinstance(value, dict | list):
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(name)}: {_dump(member, inner)}" for name, member in value.items()]
    else:
        items = [_dump(item, inner) for item in value]
    lines = [items[0]]
    for item in items[1:]:
        together = f"{lines[-1]}, {item}"
        if len(inner) + len(together) < _WIDTH and "\n" not in together:
            lines[-1] = together
        else:
            lines.append(item)
    body = f",\n{inner}".join(lines)
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opening}\n{inner}{body}\n{indent}{closing}"
