"""The record written into a picture, from which the same picture can be made again.

Knows jobs, settings and machines; nothing about networks or files. Reading a record back is `pipelines.reproduce`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vqtools.core.settings import Settings
from vqtools.version import __version__

if TYPE_CHECKING:
    from vqtools.core.device import Machine


class RecordedJob(Protocol):
    """A job that makes a picture. ``models`` names each network with its sha256."""

    machine: Machine
    models: dict[str, Any]

    @property
    def settings(self) -> Settings:
        """The settings of the job."""
        ...

    @property
    def position(self) -> int:
        """Number of steps done."""
        ...

    @property
    def total(self) -> int:
        """Number of steps of the whole job."""
        ...


def build_record(job: RecordedJob, **extra: Any) -> dict[str, Any]:
    """Return everything needed to make a job's picture again, as JSON values. extra: further entries of the record."""
    import torch  # heavy, and code that only reads records does without

    return {
        "format": 1,
        "vqtools": __version__,
        "torch": torch.__version__,
        "settings": job.settings.model_dump(mode="json"),
        "precision": job.machine.precision,
        "device": job.machine.device.type,
        "threads": job.machine.threads,
        "models": job.models,
        **extra,
        "position": job.position,
        "total": job.total,
    }
