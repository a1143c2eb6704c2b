"""Write docs/openapi.json and docs/api.md: `python -m shared.api [folder]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shared.api.openapi import build_document
from shared.api.reference import build_reference


def build_files() -> dict[str, str]:
    """Build what stands in docs/, by name."""
    document = build_document()
    return {
        "openapi.json": json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
        "api.md": build_reference(document),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, text in build_files().items():
        (folder / name).write_text(text)
