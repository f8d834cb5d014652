"""What is written into a picture so that it can be made again, and what is read out of it.

Knows jobs, settings and machines; nothing about networks or files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vqtools.core.settings import Settings
from vqtools.version import __version__

if TYPE_CHECKING:
    from vqtools.core.device import Machine


class RecordedJob(Protocol):
    """A job that makes a picture."""

    machine: Machine
    models: dict[str, Any]

    @property
    def settings(self) -> Settings: ...
    @property
    def position(self) -> int: ...
    @property
    def total(self) -> int: ...


def build_record(job: RecordedJob, **more: Any) -> dict[str, Any]:
    """All that the same picture can be made from again, for the PNG."""
    import torch  # not for those who only read a record

    return {
        "format": 1,
        "vqtools": __version__,
        "torch": torch.__version__,
        "settings": job.settings.model_dump(mode="json"),
        "precision": job.machine.precision,
        "device": job.machine.device.type,
        "threads": job.machine.threads,
        "models": job.models,
        **more,
        "position": job.position,
        "total": job.total,
    }
