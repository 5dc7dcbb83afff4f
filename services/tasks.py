"""Which model does what."""

from redpencil.types import Task


def task_of(model: str) -> Task:
    """What a model does; its corrections are those of that task."""
    return Task(model) if model in set(Task) else Task.OCR
