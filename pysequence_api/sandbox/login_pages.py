"""The pages of the simulated sign-in: the application's page, and the pages of a Universal Login.

For a program they look like the real ones: the same fields, buttons and error elements, and some others next to them.
"""

import json
from html import escape

from pysequence_api.sandbox.http import HTML_TYPE, Response
from pysequence_api.sandbox.ids import CLIENT_ID

NO_STORE = (("cache-control", "no-store"),)

_APPLICATION = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Sequence</title><link rel="icon" href="data:,"></head>
<body><main id="root"></main>
<script>
  const settings = SETTINGS;
  const returned = new URLSearchParams(location.hash.slice(1));
  if (returned.get("access_token") && returned.get("state") === sessionStorage.getItem("state")) {
    for (const name of ["access_token", "refresh_token"])
      if (returned.get(name)) sessionStorage.setItem(name, returned.get(name));
    sessionStorage.removeItem("state");
  }
  if (location.hash) history.replaceState(null, "", location.pathname);
  const root = document.getElementById("root");
  if (sessionStorage.getItem("access_token")) {
    root.innerHTML = "<h1>Your money map</h1>";
  } else {
    root.innerHTML = "<h1>Welcome</h1><button type='button'>Sign up</button> <button type='button'>Log in</button>";
    root.lastElementChild.addEventListener("click", () => {
      const state = crypto.randomUUID();
      sessionStorage.setItem("state", state);
      location.assign("/authorize?" + new URLSearchParams({
        client_id: settings.client_id, response_type: "token", redirect_uri: location.origin + "/", state }));
    });
  }
</script></body></html>
"""

_PROMPT = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title} | Sequence</title><link rel="icon" href="data:,"></head>
<body><main><header><h1>{title}</h1></header>{alert}
<form method="POST" action="{action}">{fields}
<button type="submit" class="ulp-hidden-form-submit-button" aria-hidden="true" style="display:none"></button>
<button type="submit" name="action" value="default">Continue</button></form>
<form method="POST" action="/u/elsewhere"><button type="submit">{elsewhere}</button></form></main></body></html>
"""

_FIELD = """\
<label for="{name}">{label}</label><input id="{name}" name="{name}" type="{kind}" {more} required>{error}"""
_ERROR = '<span class="ulp-input-error-message" id="error-element-{name}" data-error-code="{code}">{text}</span>'
_ALERT = '<div id="prompt-alert" role="alert" data-error-code="{code}"><p>{text}</p></div>'

WRONG_EMAIL = ("invalid-email-format", "Email is not valid.")
WRONG_PASSWORD = ("wrong-email-credentials", "Wrong email or password")
WRONG_CODE = ("invalid-code", "The code you entered is invalid")
BLOCKED = (
    "user-blocked",
    "Your account has been blocked after multiple consecutive login attempts. We've sent you a notification via your"
    " preferred contact method with instructions on how to unblock your account.",
)
Error = tuple[str, str]
"""The error code for programs, and the text on the page."""


def application_page() -> Response:
    """Return the page of the application. Its script checks whether the person is signed in."""
    settings = json.dumps({"client_id": CLIENT_ID})
    return _page(_APPLICATION.replace("SETTINGS", settings), 200)


def identifier_page(action: str, error: Error | None = None) -> Response:
    """Return the page that asks for the email address."""
    field = _field("username", "Email address", "text", 'inputmode="email" autocomplete="email"', error)
    return _prompt(title="Welcome", action=action, fields=field, elsewhere="Continue with Google", error=error)


def password_page(action: str, email: str, error: Error | None = None) -> Response:
    """Return the page that asks for the password. It shows the email address, which cannot be changed there."""
    shown = f'<span>{escape(email)}</span><input type="hidden" name="username" value="{escape(email, quote=True)}">'
    is_about_account = error is not None and error[0] == BLOCKED[0]
    alert = _ALERT.format(code=BLOCKED[0], text=escape(BLOCKED[1])) if is_about_account else ""
    about_field = None if is_about_account else error
    field = _field("password", "Password", "password", 'autocomplete="current-password"', about_field)
    return _prompt(
        title="Enter Your Password",
        action=action,
        fields=shown + field,
        elsewhere="Continue with a passkey",
        error=error,
        alert=alert,
    )


def code_page(action: str, error: Error | None = None) -> Response:
    """Return the page that asks for the one-time code."""
    field = _field("code", "Enter your one-time code", "text", 'inputmode="numeric" autocomplete="off"', error)
    return _prompt(
        title="Verify Your Identity", action=action, fields=field, elsewhere="Try another method", error=error
    )


def failure_page(text: str, status: int = 400) -> Response:
    """Return the page for a sign-in that cannot continue."""
    body = (
        f"<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Oops!</h1><p>{escape(text)}</p></body></html>"
    )
    return _page(body, status)


def redirect(location: str) -> Response:
    """Return a redirect of the browser."""
    return Response(302, b"", HTML_TYPE, (*NO_STORE, ("location", location)))


def _field(name: str, label: str, kind: str, more: str, error: Error | None) -> str:
    shown = "" if error is None else _ERROR.format(name=name, code=error[0], text=escape(error[1]))
    return _FIELD.format(name=name, label=label, kind=kind, more=more, error=shown)


def _prompt(*, title: str, action: str, fields: str, elsewhere: str, error: Error | None, alert: str = "") -> Response:
    action = escape(action, quote=True)
    text = _PROMPT.format(title=title, alert=alert, action=action, fields=fields, elsewhere=elsewhere)
    return _page(text, 200 if error is None else 400)


def _page(text: str, status: int) -> Response:
    return Response(status, text.encode(), HTML_TYPE, NO_STORE)
