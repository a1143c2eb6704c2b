"""Loads a function as functions-framework does, answers one request, and tells which modules that took."""

from __future__ import annotations

import json
import sys

from functions_framework import create_app


def main():
    function, asked = sys.argv[1], json.loads(sys.argv[2])
    app = create_app(function, f"functions/{function}/main.py")
    answer = app.test_client().open(
        asked["path"], method=asked["method"], headers=asked["headers"], data=asked["body"]
    )
    # What stands in for a module, or says that there is none, has no spec.
    loaded = sorted(name for name, module in sys.modules.items() if getattr(module, "__spec__", None))
    json.dump(
        {"status": answer.status_code, "body": answer.get_data(as_text=True), "loaded": loaded}, sys.stdout
    )


if __name__ == "__main__":
    main()
