"""The Prefect flow of one scene: phases in order, one task run a batch, artifacts for progress and the end.

Prefect sees batches of hundreds of tiles and is not asked what is done: a task run that it repeats finds the
receipts of what the first try did. Imported only once a server's address stands in the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, tags, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from pipeline.errors import ResurveyError

if TYPE_CHECKING:
    from uuid import UUID

    from pipeline.run import Outcome, Survey
    from pipeline.stage import Batch, Phase

RETRIES = 2
"""Times a batch is run again after an error that is no tile's own: a lost scheduler, say."""


def drive(run: Survey) -> Outcome:
    """Drive an open survey to its end as a flow run, and give its outcome. Raises what a phase raises."""
    ended: list[Outcome] = []

    @flow(name="survey", flow_run_name=run.folder.name, log_prints=False, persist_result=False)
    def survey(image: str, cadaster: str | None, out: str, stages: list[str], tile: int) -> State[Any]:
        shown = _id(create_progress_artifact(0.0, key="survey-progress", description=f"{image} → {out}"))
        for number, phase in enumerate(run.phases):
            _run_phase(run, phase, shown, number)
            run.close(phase)
        ended.append(run.finish())
        update_progress_artifact(shown, 100.0)
        create_markdown_artifact(_summary(ended[0]), key="survey-report", description=f"What came of {image}")
        if ended[0].exit_status:
            return Completed(name="Incomplete", message="some tiles failed: see the certificate")
        return Completed(message="complete")

    asked = run.settings
    with tags("resurvey", *asked.stages):
        survey(asked.image, asked.cadaster, str(run.folder), list(asked.stages), asked.tile)
    return ended[0]


def _run_phase(run: Survey, phase: Phase, shown: UUID, number: int) -> None:
    """Run what is due in a phase: a task run a batch, named after the phase so that they stand together."""
    batches = run.batches(phase)
    if not batches:
        return

    @task(
        name=phase.title,
        task_run_name=f"{phase.name} {{index}} of {{of}}",
        retries=RETRIES,
        retry_delay_seconds=2,
        retry_condition_fn=_worth_a_retry,
        cache_policy=NO_CACHE,
        persist_result=False,
        log_prints=False,
    )
    def run_batch(index: int, of: int, tiles: int) -> dict[str, Any]:
        report = run.execute(by_index[index])
        return {"done": report.done, "failed": report.failed, "seconds": round(report.seconds, 1)}

    by_index: dict[int, Batch] = {batch.index: batch for batch in batches}
    with tags(f"phase:{phase.name}"):
        for batch in batches:
            run_batch(batch.index, batch.of, len(batch.tasks))
            share = (number + batch.index / batch.of) / len(run.phases)
            update_progress_artifact(shown, round(100 * share, 1))


def _worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Not for a full disk or a damaged input: a second try meets the same."""
    try:
        state.result()  # type: ignore[unused-coroutine]
    except ResurveyError:
        return False
    except Exception:
        return True
    return True


def _summary(outcome: Outcome) -> str:
    """The figures as a Markdown table, and where everything is."""
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in _flat(outcome.figures)]
    folder = Path(outcome.folder)
    lines = ["## " + ("complete" if outcome.exit_status == 0 else "finished, some tiles failed"), ""]
    lines += ["| figure | value |", "|---|---|", *rows, ""]
    return "\n".join([*lines, f"Products: `{folder}`; report: `{folder / 'report.html'}`"])


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested figures as dotted names, so that a table holds them; lists are counted."""
    rows: list[tuple[str, Any]] = []
    for key, value in figures.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, len(value) if isinstance(value, list | tuple) else value))
    return rows


def _id(created: Any) -> UUID:
    """Prefect types this as maybe a coroutine; in a flow without async it is the id."""
    identifier: UUID = created
    return identifier
