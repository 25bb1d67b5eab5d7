"""A survey recorded by Prefect: what `resurvey run` does unless `--direct` is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.run import Outcome, Progress
    from pipeline.settings import Settings


def survey_recorded(settings: Settings, *, progress: Progress | None = None) -> Outcome:
    """Run every phase of a survey as a Prefect flow; the same phases as `pipeline.run.survey`.

    The run's folder is opened, and its inputs are checked, before a server is started: wrong input is said at
    once. Raises ResurveyError.
    """
    from flows.quiet import log_to
    from flows.server import recording
    from pipeline.run import Survey

    with Survey(settings, progress=progress) as run, recording(run.folder / "work" / "prefect"):
        from flows.scene import drive

        log_to(run.folder / "work" / "log.txt")
        return drive(run)
