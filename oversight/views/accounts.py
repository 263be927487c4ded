"""Signing in by a one-time link or a password, and signing out."""

from __future__ import annotations

import logging

from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST
from redis.exceptions import RedisError

from oversight.models import User
from oversight.services import accounts, audit

log = logging.getLogger(__name__)
BACKEND = "django.contrib.auth.backends.ModelBackend"


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """How to get a link, and a form for people who set a password."""
    goal = _safe_next(request)
    if request.method == "GET":
        if request.user.is_authenticated:
            return redirect(goal)
        return render(request, "oversight/sign_in.html", {"next": goal})
    username, password = request.POST.get("username", "").strip(), request.POST.get("password", "")
    problem, status = _check_password(request, username, password)
    if problem:
        context = {"next": goal, "username": username, "problem": problem}
        return render(request, "oversight/sign_in.html", context, status=status)
    return redirect(goal)


def _check_password(request: HttpRequest, username: str, password: str) -> tuple[str, int]:
    """Signs in and returns ("", 200), or says what is wrong with the HTTP status for it."""
    try:
        if not accounts.count_guess(username=username, address=request.META.get("REMOTE_ADDR", "")):
            return "Too many attempts. Wait 15 minutes, or sign in with a link.", 429
        user = authenticate(request, username=username, password=password)
        if not isinstance(user, User):
            return "The name or the password is wrong.", 422
        accounts.forget_guesses(username=username)
    except RedisError as error:
        # Without the counter guesses would be free, so passwords wait until it is back; links still work.
        log.warning("password sign-in refused, the guess counter does not answer: %s", error)
        return "Passwords can't be checked right now. Sign in with a link, or try again later.", 503
    login(request, user, backend=BACKEND)
    audit.record(user.get_username(), "account.sign-in", f"user:{user.get_username()}", by="password")
    return "", 200


@never_cache
@require_http_methods(["GET", "POST"])
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows a button and POST uses the link up, so that a mail program's preview doesn't."""
    if request.method == "GET" and accounts.is_link_open(token):
        return render(request, "oversight/sign_in_link.html")
    user = accounts.use_sign_in_link(token) if request.method == "POST" else None
    if user is None:
        return render(request, "oversight/sign_in_link.html", {"spent": True}, status=410)
    login(request, user, backend=BACKEND)
    return redirect("/")


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign-in")


def _safe_next(request: HttpRequest) -> str:
    """Where to go afterwards: a path of this site, never another host."""
    goal = request.POST.get("next") or request.GET.get("next") or "/"
    safe = url_has_allowed_host_and_scheme(goal, {request.get_host()}, require_https=request.is_secure())
    return goal if safe else "/"
