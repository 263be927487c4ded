"""Settings, all from the environment; a bad value stops the start with one clear line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF

BASE_DIR = Path(__file__).resolve().parent.parent
# Everything that a laptop run writes lies under one folder: database, run folders, models, logs.
VAR_DIR = Path(os.environ.get("OVERSIGHT_VAR", BASE_DIR / "var"))


def stop(message: str) -> None:
    """Ends the start with one line instead of a traceback."""
    sys.exit(f"oversight: {message}")


def flag(name: str, default: bool) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if value in ("", "1", "true", "yes", "on", "0", "false", "no", "off"):
        return value in ("1", "true", "yes", "on") if value else default
    stop(f"{name} is {value!r}; set it to 1 or 0")
    raise AssertionError


def number(name: str, default: int) -> int:
    value = os.environ.get(name, "").strip()
    if value and not (value.isdecimal() and int(value) > 0):
        stop(f"{name} is {value!r}; set it to a whole number above 0")
    return int(value or default)


def kept(name: str) -> str:
    """What `make run` keeps in a file of VAR_DIR that only its owner may read; "" where there is none."""
    try:
        return (VAR_DIR / name).read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        stop(f"{VAR_DIR / name} cannot be read: {error.strerror}; run as the user who started Oversight")
        raise AssertionError from error


DEBUG = flag("DEBUG", False)
SECRET_KEY = os.environ.get("SECRET_KEY") or kept("secret.key")
if not SECRET_KEY:
    if not DEBUG:
        stop("SECRET_KEY is not set; export a long random value (`make run` keeps one in var/secret.key)")
    SECRET_KEY = "debug-only-key-never-used-outside-a-developers-machine"  # noqa: S105 - refused unless DEBUG

ALLOWED_HOSTS = [h for h in os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",") if h]
CSRF_TRUSTED_ORIGINS = [o for o in os.environ.get("CSRF_TRUSTED_ORIGINS", "").split(",") if o]

PROFILE = os.environ.get("OVERSIGHT_PROFILE", "laptop")
if PROFILE not in ("tiny", "laptop", "gpu"):
    stop(f"OVERSIGHT_PROFILE is {PROFILE!r}; use tiny, laptop or gpu")
DEFAULT_MODEL = "tiny" if PROFILE == "tiny" else str(VAR_DIR / "models" / "SmolLM2-135M-Instruct")
LEARNER_MODEL = os.environ.get("OVERSIGHT_LEARNER_MODEL") or DEFAULT_MODEL
CRITIC_MODEL = os.environ.get("OVERSIGHT_CRITIC_MODEL", "")
ATTACKER_MODEL = os.environ.get("OVERSIGHT_ATTACKER_MODEL", "")
JUDGE_MODEL = os.environ.get("OVERSIGHT_JUDGE_MODEL", "")
RUNS_URL = os.environ.get("OVERSIGHT_RUNS_URL") or str(VAR_DIR / "runs")

REDIS_URL = os.environ.get("REDIS_URL") or kept("redis.url") or "redis://127.0.0.1:6379/0"
if not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    stop(f"REDIS_URL is {REDIS_URL!r}; it must start with redis://, rediss:// or unix://")

INSTALLED_APPS = [
    "oversight",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "lucide",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "oversight.urls"
ASGI_APPLICATION = "oversight.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["lucide.templatetags.lucide"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "oversight.selectors.page.page_context",
            ],
        },
    }
]

try:
    DATABASES: dict[str, Any] = {
        "default": dj_database_url.parse(os.environ.get("DATABASE_URL") or f"sqlite:///{VAR_DIR / 'oversight.sqlite3'}")
    }
except (ValueError, dj_database_url.UnknownSchemeError) as error:
    stop(f"DATABASE_URL cannot be read: {error}; use postgres://user@host/name or sqlite:///path")
ON_POSTGRESQL = not DATABASES["default"]["ENGINE"].endswith("sqlite3")
if not ON_POSTGRESQL:
    # WAL lets readers work beside the one writer; IMMEDIATE takes the write lock at the start of a
    # transaction, so that two writers wait for each other instead of failing half-way.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000;"
            # 16 MB of pages a connection, and the file's own pages through the system's cache.
            "PRAGMA cache_size=-16000; PRAGMA mmap_size=268435456;"
        ),
    }
    DATABASES["default"]["CONN_MAX_AGE"] = None  # the server's threads keep theirs
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The layer waits 5 seconds at a time for an event; redis-py's own limit is 5 too and would end every open
# socket, so it gets a longer one.
CHANNEL_HOST = {"address": REDIS_URL, "socket_timeout": 20}
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [CHANNEL_HOST]}}
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)  # Celery's name for a socket
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

AUTH_USER_MODEL = "oversight.User"
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/sign-in/"
AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]

MESSAGE_TAGS = {25: "good", 30: "warn", 40: "bad"}  # message levels to the classes of oversight.css

LANGUAGE_CODE = "en-gb"
TIME_ZONE = os.environ.get("TZ", "UTC")
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
HTTPS = flag("OVERSIGHT_HTTPS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31_536_000
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PAGINATION_CLASS": "oversight.api.pages.OffsetPages",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Oversight API",
    "VERSION": "1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    # No badge from validator.swagger.io: nobody elsewhere learns the addresses of this API.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

WEB_THREADS = number("OVERSIGHT_WEB_THREADS", 4)  # requests that one web process works on at once

# Oversight's own numbers, in seconds.
LEASE_SECONDS = 600
AHEAD_SECONDS = 90  # a sample that the page fetched before it is needed; its heartbeat comes every 30
HEARTBEAT_SECONDS = 5  # a running phase touches its round this often
LOST_AFTER_SECONDS = number("OVERSIGHT_LOST_AFTER_SECONDS", 40)  # a phase silent for longer is taken as dead
SIGN_IN_LINK_SECONDS = 24 * 3600
