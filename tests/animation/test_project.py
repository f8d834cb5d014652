"""An animation's folder: one run at a time, created late, deleted if it stays empty."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vqtools.animation.project import VIDEO_FRAMES_FOLDER, Project, ProjectLockedError

HOLDS = """
import sys, time
from vqtools.animation.project import Project
with Project.open(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_admits_one_run_and_is_released_by_a_kill(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "film", {"settings": {}})
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(project.folder)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with (
            pytest.raises(ProjectLockedError, match="film' is in use by another run; stop that run"),
            project.locked(),
        ):
            pass
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    other_run = Project.open(project.folder)
    with (
        project.locked(),
        project.locked(),
        pytest.raises(ProjectLockedError),
        other_run.locked(),
    ):  # the lock is reentrant
        pass
    with Project.open(project.folder).locked():
        pass


def test_a_planned_folder_is_created_when_it_is_locked(tmp_path: Path) -> None:
    first, second = (Project.create_lazily(tmp_path / "film", {"settings": {"frames": n}}) for n in (1, 2))
    first.save()
    first.check_free_space(1)
    assert not list(tmp_path.iterdir())
    with second.locked():
        assert second.folder == tmp_path / "film"
    with first.locked():
        assert first.folder == tmp_path / "film-2"  # the name was used in the meantime
    assert [Project.open(p.folder).record["settings"]["frames"] for p in (first, second)] == [1, 2]


def test_only_empty_folders_of_ours_are_discarded(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "film", {"settings": {}})
    (project.folder / VIDEO_FRAMES_FOLDER).mkdir()  # copied, not made
    assert project.discard_if_empty() and not project.folder.exists()
    project.create_folder()
    (project.folder / "frames").mkdir()
    assert not project.discard_if_empty() and project.folder.is_dir()
    Project.create(tmp_path / "other", {"settings": {}})
    assert not Project.open(tmp_path / "other").discard_if_empty() and (tmp_path / "other").is_dir()  # not ours
