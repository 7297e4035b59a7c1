"""Login, logout, the requests, the admin's inbox, the page with the chat, and the API's document."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user
from flask_swagger_ui import get_swaggerui_blueprint

from .extensions import chat
from .models import ServiceRequest, User, db

pages = Blueprint("pages", __name__)

api_docs = get_swaggerui_blueprint("/api-docs", "")  # templates/index.template.html says which document
api_docs.before_request(login_required(lambda: None))

# Nothing inline, nothing from elsewhere; photos go to and come from the chat's storage.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: {storage};"
    " connect-src 'self' {storage}; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
DOCS_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace("blob:", "data:")
"""Swagger UI styles its elements inline and brings its signs as data."""


@pages.after_request
def secure(response: Response) -> Response:
    return _with_policy(response, POLICY)


@api_docs.after_request
def secure_docs(response: Response) -> Response:
    return _with_policy(response, DOCS_POLICY)


def _with_policy(response: Response, policy: str) -> Response:
    response.headers["Content-Security-Policy"] = policy.format(storage=chat.storage_origin or "").replace(" ;", ";")
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@pages.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("login.html", error=None)
    given: Any = request.get_json(silent=True) if request.is_json else request.form
    given = given if hasattr(given, "get") else {}
    email, password = str(given.get("email", "")), str(given.get("password", ""))
    user = db.session.scalar(db.select(User).where(User.email == email.strip().lower()))
    if user is None or not user.check_password(password) or not login_user(user):
        error = "This e-mail address and password do not match."
        if request.is_json:
            return jsonify(error=error), 401
        return render_template("login.html", error=error), 401
    if request.is_json:
        return jsonify(id=user.id, name=user.name)
    return redirect(url_for("pages.home"))


@pages.post("/logout")
@login_required
def logout() -> ResponseReturnValue:
    logout_user()
    if request.is_json:
        return jsonify(status="logged out")
    return redirect(url_for("pages.login"))


@pages.get("/")
@login_required
def home() -> str:
    """The admin's inbox, or the client's own requests."""
    return render_template("inbox.html") if current_user.is_admin else list_requests()


@pages.get("/requests")
@login_required
def list_requests() -> str:
    thread = chat.models.ChatThread
    query = (
        db.select(ServiceRequest, thread)
        .outerjoin(thread, thread.request_id == ServiceRequest.id)
        .options(db.joinedload(ServiceRequest.client))
        .order_by(ServiceRequest.visit_on)
    )
    if not current_user.is_admin:
        query = query.where(ServiceRequest.client_id == current_user.id)
    return render_template("requests.html", rows=db.session.execute(query).all())


def visible_request(request_id: int) -> ServiceRequest:
    service_request = db.session.get(ServiceRequest, request_id) or abort(404)
    if not (current_user.is_admin or service_request.client_id == current_user.id):
        abort(403)
    return service_request


@pages.get("/requests/<int:request_id>")
@login_required
def show_request(request_id: int) -> str:
    return render_template("request.html", request=visible_request(request_id))


@pages.get("/requests/<int:request_id>/summary")
@login_required
def summarize_request(request_id: int) -> ResponseReturnValue:
    """What the inbox calls a chat."""
    service_request = visible_request(request_id)
    return jsonify(title=service_request.title, detail=service_request.client.name)


@pages.post("/requests/<int:request_id>/done")
@login_required
def complete_request(request_id: int) -> ResponseReturnValue:
    """The work is done: so is the talk about it, in the same transaction."""
    if not current_user.is_admin:
        abort(403)
    service_request = db.session.get(ServiceRequest, request_id) or abort(404)
    service_request.done = True
    chat.close_request(service_request)
    db.session.commit()
    return redirect(url_for("pages.show_request", request_id=request_id))
