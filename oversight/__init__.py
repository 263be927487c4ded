"""Oversight: people, queue, rounds and charts around the alignment loop."""

from oversight.celery import app as celery_app

__all__ = ["celery_app"]
