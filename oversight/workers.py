"""Which workers listen on which queue: written to Redis by each worker, read by pages, forms and health.

A worker's name stands in the sorted set `oversight:workers:<queue>` with the time (Redis's own clock)
it was last seen consuming. One that is killed, or has lost the broker, falls out after SEEN_SECONDS.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from celery import bootsteps
from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)
BEAT_SECONDS = 3
SEEN_SECONDS = 10


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=1, socket_timeout=2, decode_responses=True)


def client() -> Redis:
    """A Redis client that gives up within two seconds where nothing answers."""
    from django.conf import settings

    return _client(settings.REDIS_URL)


def listening(queue: str) -> list[str]:
    """Names of the workers that consume `queue` now. Raises RedisError where the broker does not answer."""
    redis = client()
    seconds, _ = redis.time()
    return [str(name) for name in redis.zrangebyscore(_key(queue), seconds - SEEN_SECONDS, "+inf")]


def waiting(queue: str) -> int:
    """Messages in `queue` that no worker has fetched. Raises RedisError where the broker does not answer."""
    return int(client().llen(queue))


def _key(queue: str) -> str:
    return f"oversight:workers:{queue}"


class Presence(bootsteps.StartStopStep):
    """Says every few seconds that this worker consumes its queues; runs in the worker's main process."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer: Any = None

    def start(self, consumer: Any) -> None:
        self._announce(consumer)
        self.timer = consumer.timer.call_repeatedly(BEAT_SECONDS, self._announce, (consumer,))

    def stop(self, consumer: Any) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        try:
            for queue in consumer.app.amqp.queues.consume_from:
                client().zrem(_key(queue), consumer.hostname)
        except RedisError:
            pass  # it is the broker that is gone: the entry runs out by itself

    shutdown = stop

    def _announce(self, consumer: Any) -> None:
        try:
            redis = client()
            seconds, _ = redis.time()
            for queue in consumer.app.amqp.queues.consume_from:
                redis.zadd(_key(queue), {consumer.hostname: seconds})
                redis.zremrangebyscore(_key(queue), 0, seconds - 3600)
        except RedisError as error:
            log.warning("presence not announced: %s", error)
