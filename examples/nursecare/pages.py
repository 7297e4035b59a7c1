"""Login, logout, the client's requests, the admin's inbox, the page with the chat, and the API's document."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user
from flask_swagger_ui import get_swaggerui_blueprint

from .extensions import chat
from .models import ServiceRequest, User, db

pages = Blueprint("pages", __name__)

api_docs = get_swaggerui_blueprint("/api-docs", "")  # templates/index.template.html says which document
api_docs.before_request(login_required(lambda: None))


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
    thread = chat.models.ChatThread
    query = (
        db.select(ServiceRequest, thread)
        .outerjoin(thread, thread.request_id == ServiceRequest.id)
        .options(db.joinedload(ServiceRequest.client))
        .order_by(ServiceRequest.visit_on)
    )
    if not current_user.is_admin:
        query = query.where(ServiceRequest.client_id == current_user.id)
    return render_template("home.html", rows=db.session.execute(query).all())


@pages.get("/requests/<int:request_id>")
@login_required
def show_request(request_id: int) -> str:
    service_request = db.session.get(ServiceRequest, request_id) or abort(404)
    if not (current_user.is_admin or service_request.client_id == current_user.id):
        abort(403)
    return render_template("request.html", request=service_request, limits=chat.config)


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
