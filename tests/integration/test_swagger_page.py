"""The Swagger page in a real browser: it shows every operation, asks nobody else, and asks the API."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from shared.api.all import ENDPOINTS
from tests.browser import find_browser, open_page
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no browser here: `apt-get install chromium` brings one"
)
HEALTH = "[id='operations-health-getHealth']"


def test_the_page_shows_every_operation_and_asks_only_this_function(pipeline, tmp_path):
    with open_page(f"{pipeline.query.url}/swagger/", tmp_path) as page:
        wait_until(lambda: page.evaluate("document.querySelectorAll('.opblock').length"), 30)
        shown = page.evaluate(
            "[...document.querySelectorAll('.opblock')].map(block =>"
            " block.querySelector('.opblock-summary-method').textContent + ' ' +"
            " block.querySelector('[data-path]').dataset.path)"
        )
        assert sorted(shown) == sorted(f"{e.method} {e.path}" for e in ENDPOINTS)
        # "Try it out" asks where the page came from, whatever address the document has for it.
        for button in (".opblock-summary-control", ".try-out__btn", ".execute"):
            script = f"document.querySelector(`{HEALTH} {button}`)"
            wait_until(lambda script=script: page.evaluate(f"{script} !== null"))
            page.evaluate(f"{script}.click()")
        answered = (
            f"document.querySelector(`{HEALTH} .live-responses-table tbody .response-col_status`)?.innerText"
        )
        assert wait_until(lambda: page.evaluate(answered)).startswith("200")
        assert page.errors == []
    assert f"{pipeline.query.url}/health" in page.requests
    elsewhere = [url for url in page.requests if not url.startswith((pipeline.query.url, "data:"))]
    assert elsewhere == [], {urlsplit(url).netloc for url in elsewhere}
