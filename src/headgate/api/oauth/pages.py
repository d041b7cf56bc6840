"""The pages of the authorization server: sign-in, consent, error. They have no script, and every
text in them is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from starlette.responses import HTMLResponse, Response

from headgate.oauth.model.client import OAuthClient
from headgate.oauth.model.redirects import find_form_source, find_host, is_loopback
from headgate.oauth.model.scope import FULL, READ, WRITE
from headgate.oauth.service import ProjectChoice

STYLE = """
*{box-sizing:border-box}
body{margin:0;background:#f3f4f6;color:#16181d;font:16px/1.5 system-ui,sans-serif}
main{max-width:30rem;margin:6vh auto;padding:2rem;background:#fff;border-radius:12px}
h1{font-size:1.35rem;line-height:1.3;margin:0 0 1rem}
p{margin:.6rem 0}
label{display:block;margin:.8rem 0 .2rem;font-weight:600}
label.choice{font-weight:400;margin:.3rem 0}
input[type=email],input[type=password],select{width:100%;padding:.55rem;font:inherit}
fieldset{border:0;padding:0;margin:1rem 0}
legend{font-weight:600;padding:0}
button,.button{display:inline-block;margin:.8rem .5rem 0 0;padding:.6rem 1.1rem;font:inherit;
border:1px solid #1d4ed8;border-radius:8px;background:#1d4ed8;color:#fff;text-decoration:none}
button.plain,.button.plain{background:#fff;color:#1d4ed8}
dl{margin:1rem 0;padding:.8rem 1rem;background:#f3f4f6;border-radius:8px}
dt{font-size:.85rem;color:#4b5563}
dd{margin:0 0 .5rem;font-weight:600;overflow-wrap:anywhere}
.warning{padding:.6rem .8rem;background:#fef3c7;border-radius:8px}
.error{padding:.6rem .8rem;background:#fee2e2;border-radius:8px}
.small{font-size:.85rem;color:#4b5563}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

ACCESS = {
    READ: "See tools, models and usage",
    WRITE: "Use tools: call models at your organization's cost, and store files",
    FULL: "Do all that, and set up and remove integrations",
}


def render_sign_in(
    query: str, *, has_single_sign_on: bool, error: str = "", status: int = 200
) -> Response:
    """Return the page on which a person signs in. `query` is the authorization request, which
    follows."""
    hidden = render_hidden({"query": query})
    parts = ["<h1>Sign in to Headgate</h1>", "<p>An application wants to be connected.</p>"]
    if error:
        parts.append(f'<p class="error" role="alert">{escape(error)}</p>')
    parts.append(
        f'<form method="post" action="/oauth/sign-in">{hidden}'
        '<label for="email">E-mail</label>'
        '<input id="email" name="email" type="email" autocomplete="username" required>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" '
        'autocomplete="current-password" required>'
        "<button>Sign in</button></form>"
    )
    # A link, since the policy of forms covers where they lead in the end.
    if has_single_sign_on:
        link = f"/oauth/sso?{escape(query)}"
        parts.append(f'<p><a class="button plain" href="{link}">Use single sign-on</a></p>')
    return render_page("Sign in", "".join(parts), status=status)


def render_consent(
    client: OAuthClient,
    redirect_uri: str,
    scopes: Sequence[str],
    choices: Sequence[ProjectChoice],
    *,
    person: str,
    query: str,
    csrf_token: str,
) -> Response:
    """Return the page on which a person decides."""
    name = escape(client.name)
    hidden = render_hidden({"query": query, "csrf_token": csrf_token})
    parts = [f"<h1>Connect {name} to Headgate?</h1>", _render_facts(client, redirect_uri, person)]
    if not choices:
        parts.append(
            '<p class="error">You are not an owner or an admin of an organization with a project, '
            "so you cannot connect applications. Ask an owner of your organization.</p>"
        )
    parts.append(f'<form method="post" action="/oauth/authorize">{hidden}')
    if choices:
        parts += [_render_projects(choices), _render_access(scopes)]
        parts.append('<button name="decision" value="allow">Connect</button>')
    parts.append(
        '<button class="plain" name="decision" value="deny" formnovalidate>Cancel</button>'
    )
    parts.append("</form>")
    parts.append(
        '<p class="small">What it spends counts for the project. An owner or an admin can '
        "disconnect it at any time.</p>"
        f'<p class="small">Not you? <a href="/oauth/authorize?{escape(query)}&amp;prompt=login">'
        "Sign in as somebody else</a>.</p>"
    )
    return render_page("Connect an application", "".join(parts), leads_to=redirect_uri)


def render_problem(
    title: str, message: str, *, status: int, link: str = "", host: str = ""
) -> Response:
    """Return a page that says what is wrong. `link` tells the application at `host` of it."""
    content = f"<h1>{escape(title)}</h1><p>{escape(message)}</p>"
    if link:
        content += f'<p><a href="{escape(link)}">Go back to {escape(host)}</a></p>'
    return render_page(title, content, status=status)


def render_page(title: str, content: str, *, status: int = 200, leads_to: str = "") -> Response:
    """Return a page. Its form may lead to this server, and where `leads_to` points: a browser
    checks each step of the way, and a callback may lead to another https address."""
    sources = f"'self' https: {find_form_source(leads_to)}" if leads_to else "'self'"
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {sources}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} - Headgate</title><style>{STYLE}</style></head>"
        f"<body><main>{content}</main></body></html>"
    )
    headers = {
        "cache-control": "no-store",
        "content-security-policy": policy,
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        # Under `no-referrer` browsers send `Origin: null` with a form, which proves nothing.
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin-allow-popups",
    }
    return HTMLResponse(html, status, headers=headers)


def render_hidden(fields: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
    )


def _render_facts(client: OAuthClient, redirect_uri: str, person: str) -> str:
    host = find_host(redirect_uri)
    is_local = is_loopback(redirect_uri) or host.endswith(":")
    where = f"{host} (a program on this computer)" if is_local else host
    publisher = client.host or "not verified: the application named itself"
    facts = {
        "Application": client.name,
        "Published by": publisher,
        "Sends you back to": where,
        "You are": person,
    }
    rows = "".join(
        f"<dt>{escape(each)}</dt><dd>{escape(text)}</dd>" for each, text in facts.items()
    )
    warning = (
        ""
        if client.host
        else '<p class="warning">Connect it only if you just started this yourself, and know the '
        "address above.</p>"
    )
    return f"<dl>{rows}</dl>{warning}"


def _render_projects(choices: Sequence[ProjectChoice]) -> str:
    options = "".join(
        f'<option value="{escape(each.project.id)}">'
        f"{escape(each.organization_name)} / {escape(each.project.name)}</option>"
        for each in choices
    )
    return (
        '<label for="project">Organization and project</label>'
        f'<select id="project" name="project_id" required>{options}</select>'
    )


def _render_access(scopes: Sequence[str]) -> str:
    rows = "".join(
        f'<label class="choice"><input type="radio" name="access" value="{escape(each)}"'
        f"{' checked' if each == scopes[-1] else ''}> {escape(ACCESS[each])}</label>"
        for each in scopes
    )
    return f"<fieldset><legend>It may</legend>{rows}</fieldset>"
