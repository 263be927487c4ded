"""The ASGI application: pages over HTTP, live events over WebSocket.

Pages are synchronous code, so they run as WSGI in a pool of threads that live as long as the process. Django's own
ASGI handler makes a new thread, and with it a new database connection, for every request.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from a2wsgi import WSGIMiddleware
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oversight.settings")
# Loads the apps, so it comes before anything that imports models.
wsgi: Any = get_wsgi_application()
pages: Any = WSGIMiddleware(wsgi, workers=settings.WEB_THREADS)
# SQLite lets one write at a time, and each write makes every other connection forget the pages it has read: there
# the workbench, which writes with every request, has one thread and so one connection for itself.
workbench: Any = pages if settings.ON_POSTGRESQL else WSGIMiddleware(wsgi, workers=1)

from oversight import events  # noqa: E402
from oversight.routing import websocket_urlpatterns  # noqa: E402


async def http(scope: Any, receive: Any, send: Any) -> None:
    events.attach(asyncio.get_running_loop())
    serve = workbench if scope["path"].startswith("/review/") else pages
    await serve(scope, receive, send)


application = ProtocolTypeRouter(
    {
        "http": http,
        # A browser sends the session cookie with any page's socket: only our own origins may open one.
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
