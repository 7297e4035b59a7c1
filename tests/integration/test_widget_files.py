"""The browser's files as they are served, and the macros that put the elements into a host's page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import render_template_string
from flask_login import login_user

from nursecare_chat import widget

from ..support.hosts import Api, Workbench

MODULE = "/api/chat/widget/nursecare-chat-elements.js"
PAGE = '{% from "nursecare_chat/widget.html" import chat, inbox %}'


def rendered(bench: Workbench, page: str, who: str | None = "client", mount: str = "", **context: Any) -> str:
    """What a page of the host's own has where the macro stands."""
    with bench.app.test_request_context("/", environ_overrides={"SCRIPT_NAME": mount}):
        if who is not None:
            login_user(bench.host.user(who))
        return render_template_string(PAGE + page, **context)


def test_a_module_is_kept_and_asked_for_again(client_api: Api) -> None:
    """C11: a strong ETag, revalidated each time, never shared; the type that a browser takes a module of."""
    first = client_api.call("GET", MODULE)
    assert (first.status_code, first.content_type) == (200, "text/javascript; charset=utf-8")
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    etag = first.headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    again = client_api.call("GET", MODULE, headers={"If-None-Match": etag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", etag)
    assert again.headers["Cache-Control"] == "private, no-cache"
    assert client_api.call("GET", MODULE, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client_api.call("GET", "/api/chat/widget/theme.css").content_type == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        "widget.html",
        "..%2f__init__.py",
        "../__init__.py",
        "%2e%2e/__init__.py",
        "theme.css%00.js",
        "THEME.CSS",
    ],
)
def test_nothing_else_is_served(client_api: Api, name: str) -> None:
    """C12: an unknown file is our JSON 404, and no name leads out of the folder."""
    response = client_api.call("GET", f"/api/chat/widget/{name}")
    assert (response.status_code, response.get_json()["code"]) == (404, "not_found")


def test_what_a_page_names_is_kept_for_ever(client_api: Api) -> None:
    """C11: no request for what the browser has; a page of another release still gets the file, and asks again."""
    lasting = client_api.call("GET", f"/api/chat/widget/{widget.version()}/outbox.js")
    assert lasting.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    other = client_api.call("GET", "/api/chat/widget/0123456789abcdef/outbox.js")
    assert (other.data, other.headers["Cache-Control"]) == (lasting.data, "private, no-cache")
    assert client_api.call("GET", f"/api/chat/widget/{widget.version()}/nothing.js").status_code == 404


def test_every_import_is_there(client_api: Api) -> None:
    """C12: each module and style sheet that one of them names is served."""
    for name in widget.modules():
        text = client_api.call("GET", f"/api/chat/widget/{name}").get_data(as_text=True)
        named = re.findall(r'^(?:import|export) [^"]*from "\./([^"]+)"', text, re.MULTILINE)
        named += re.findall(r'"([a-z-]+\.css)"', text)
        for other in named:
            assert client_api.call("GET", f"/api/chat/widget/{other}").status_code == 200, (name, other)


def test_no_file_outgrows_a_head() -> None:
    """The house's limit, for the browser's side, too; catalogues are lists."""
    for path in widget.STATIC.iterdir():
        assert len(path.read_text().splitlines()) < 300, path.name


def test_the_macros(bench: Workbench) -> None:
    """C1, C20: one tag, with what the element must know: the user as the API shows ids, the mount, the limits."""
    page = rendered(
        bench,
        "{{ chat(request=request_id, client_name=name, auto=true) }}",
        mount="/care",
        request_id=7,
        name='Dr. "<i>',
    )
    with bench.app.app_context():
        user = bench.host.user_id("client")
    here = f"/care/api/chat/widget/{widget.version()}/"
    assert f'<script type="module" src="{here}nursecare-chat-elements.js"></script>' in page
    assert re.findall(r'<link rel="modulepreload" href="(.+)">', page) == [here + name for name in widget.modules()]
    (tag,) = re.findall(r"<nursecare-chat [^>]*></nursecare-chat>", page)
    assert dict(re.findall(r'([a-z-]+)="([^"]*)"', tag)) == {
        "user": str(user),
        "base": "/care",
        "max-text": "5000",
        "max-image-bytes": "10485760",
        "image-types": "image/jpeg,image/png,image/webp",
        "request": "7",
        "client-name": "Dr. &#34;&lt;i&gt;",
        "auto": "",
    }
    assert "thread=" not in tag
    assert '<nursecare-chat-inbox user="' in rendered(bench, "{{ inbox() }}", "admin")
    assert 'thread="7"' in rendered(bench, "{{ chat(thread=7) }}")


def test_the_macros_of_a_host_that_escapes_nothing(bench: Workbench) -> None:
    """C1: no value becomes markup, whatever the host has set up Jinja for."""
    bench.app.jinja_env.autoescape = False
    page = rendered(bench, "{{ chat(request='\"><img>', client_name='<i>') }}")
    assert 'request="&#34;&gt;&lt;img&gt;"' in page
    assert 'client-name="&lt;i&gt;"' in page


def test_a_page_without_a_chat(bench: Workbench) -> None:
    """C7: nobody logged in, or switched off: the macros write nothing."""
    assert rendered(bench, "{{ chat(thread=7) }}{{ inbox() }}", who=None).strip() == ""
    bench.app.config["CHAT_ENABLED"] = False
    assert rendered(bench, "{{ chat(thread=7) }}{{ inbox() }}").strip() == ""


def test_a_host_that_uses_no_macro_keeps_its_templates(bench: Workbench) -> None:
    """C7: its Jinja environment is not made by us, and has no global of ours before a page asks for the macros."""
    app = bench.host.create_app(bench.url, {"TESTING": True, "CHAT_QUEUE_URL": "memory://"})
    assert "jinja_env" not in vars(app)
    with app.test_request_context("/"):
        render_template_string("{{ 1 }}")
        assert widget.SETTINGS not in app.jinja_env.globals
