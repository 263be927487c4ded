"""Oversight's own settings for the tests: a folder of their own, and no server needed."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("DEBUG", "1")
os.environ.setdefault("OVERSIGHT_PROFILE", "tiny")
if "OVERSIGHT_TEST_VAR" not in os.environ:  # xdist's workers share the folder of the process that started them
    os.environ["OVERSIGHT_TEST_VAR"] = tempfile.mkdtemp(prefix="oversight-test-")
    atexit.register(shutil.rmtree, os.environ["OVERSIGHT_TEST_VAR"], ignore_errors=True)
os.environ["OVERSIGHT_VAR"] = os.environ["OVERSIGHT_TEST_VAR"]

from oversight.settings import *  # noqa: F403
from oversight.settings import CACHES, CHANNEL_LAYERS, DATABASES, REDIS_URL, VAR_DIR

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, not memory: threads and processes of the tests must meet the locks that users meet.
    DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}
if "REDIS_URL" not in os.environ:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    CELERY_BROKER_URL = "memory://"
else:  # one server, several processes of tests
    CHANNEL_LAYERS["default"]["CONFIG"] = {"hosts": [REDIS_URL], "prefix": f"test-{os.getpid()}"}
    CACHES["default"]["KEY_PREFIX"] = f"test-{os.getpid()}"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
