"""The sections of the report page as HTML, one function each; an empty section is an empty string."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from pipeline.report.charts import VERDICTS, bars, histogram, number, shift_plot, verdict_map
from pipeline.report.data import ReportData
from pipeline.report.review import Finding, table

_STEP = re.compile(r"(p\d+)?-(field|move)$")  # alignment's rounds and halves count as one in the chart
_CHANGE_COLOURS = {
    "confirmed": "#2e8671",
    "moved": "#12b5c9",
    "changed": "#e0a800",
    "missing": "#cd2b31",
    "new": "#8a56b8",
}


def figures(data: ReportData) -> str:
    shift = np.hypot(data.dx_m, data.dy_m)
    moved = (data.status == "moved") & np.isfinite(shift)
    sure = data.confidence[moved & np.isfinite(data.confidence)]
    area = data.shape[0] * data.shape[1] * data.gsd**2 / 1e6
    figures = [
        (f"{number(area)} km²", f"surveyed at {data.gsd:g} m a pixel"),
        (number(len(data.status)), "polygons in the cadaster"),
    ]
    if moved.any():
        figures.append((f"{100 * moved.mean():.0f} %", "of them moved"))
        figures.append((f"{number(float(np.median(shift[moved])))} m", "median shift"))
    if len(sure):
        figures.append((number(float(np.median(sure))), "median confidence"))
    count = data.building_count if data.building_count is not None else len(data.buildings or ())
    if count:
        figures.append((number(count), "buildings seen"))
    for kind in ("missing", "new", "changed"):
        if kind in data.changes and any(data.changes.values()):
            figures.append((number(int(data.changes[kind])), f"{kind} buildings"))
    if data.wall_seconds:
        figures.append((_clock(data.wall_seconds), "wall time"))
    return "".join(f"<div class='card figure'><b>{value}</b><span>{name}</span></div>" for value, name in figures)


def map_view(data: ReportData, vectors: str, picture: str, left_out: Sequence[str]) -> str:
    toggles = [("old", "in the cadaster", "#ff5a36", True), ("new", "aligned", "#19e3f5", True)]
    if data.buildings is not None and len(data.buildings):
        toggles.append(("seen", "buildings seen", "#ffd23f", False))
    boxes = "".join(
        f"<label><input type=checkbox id={id} {'checked' if on else ''}><i class=key style='border-color:{colour}'></i>"
        f"{name}</label>"
        for id, name, colour, on in toggles
    )
    boxes += "<label><input type=checkbox id=sure>colour by confidence</label>"
    if '"arrows"' in vectors:
        times = json.loads(vectors)["stretch"]
        boxes += f"<label><input type=checkbox id=arrows>field, lengths ×{times}</label>"
    notes = "".join(f"<p class=sub>{escape(note)}</p>" for note in left_out)
    return (
        "<div class='card map'><canvas></canvas><div class=scale></div><div class=zoom><button id=in>+</button>"
        "<button id=out>−</button><button id=fit title='whole scene'>⤢</button></div><div class=tip></div>"
        f"<div class=bar><button id=play>▶ play</button><span class=slide>cadaster<input type=range id=t min=0 max=100 "
        f"value=100 aria-label='from the cadaster to aligned'>aligned</span>{boxes}</div></div>"
        "<p class=sub style='margin-top:8px'>Drag to move, double-click or Ctrl + wheel to zoom. Colours by "
        "confidence: cyan above 0.75, white above 0.5, magenta below.</p>"
        f"{notes}<script type='application/json' id=vectors>{vectors}</script>"
        f"<script type='text/plain' id=overview>{picture}</script>"
    )


def closeup_lead(data: ReportData) -> str:
    return (
        "The same ground twice: the cadaster as it came, and as it was moved. Chosen by rule: the largest sure "
        "shifts, typical ones, the least sure, and what is missing or new. Click one to go there on the map."
    )


def distributions(data: ReportData) -> str:
    moved = (data.status == "moved") & np.isfinite(data.dx_m) & np.isfinite(data.dy_m)
    if not moved.any():
        return ""
    dx, dy = data.dx_m[moved], data.dy_m[moved]
    shift = np.hypot(dx, dy)
    sure = data.confidence[moved & np.isfinite(data.confidence)]
    reach = _round_up(float(np.percentile(shift, 99)))
    ticks = [reach * share for share in (0, 0.25, 0.5, 0.75, 1)]
    charts = [
        card(
            "How far polygons moved",
            histogram(shift, np.linspace(0, reach, 31), "shift, metres", colour="#12a3b4", ticks=ticks,
                      marks={"median": float(np.median(shift))}),
        ),
        card(
            "How sure the alignment is",
            histogram(sure, np.linspace(0, 1, 26), "confidence", colour="#7b8794", ticks=(0, 0.25, 0.5, 0.75, 1),
                      marks={"median": float(np.median(sure))} if len(sure) else {}),
        ),
        card("Where to", shift_plot(dx, dy, reach)),
    ]  # fmt: skip
    lead = "Confidence is 0 to 1 for each polygon. The disc shows every shift, east and north; its dot is the median."
    return section("Shifts and confidence", lead, "charts", "".join(charts))


def review(data: ReportData, found: list[Finding]) -> str:
    if not found and not data.changes:
        return ""
    parts = []
    if any(data.changes.values()):
        total = max(sum(data.changes.values()), 1)
        rows = [(k, float(v), f"{number(int(v))} ({100 * v / total:.0f} %)") for k, v in data.changes.items()]
        parts.append(card("Cadaster against image", bars(rows, "#7b8794", _CHANGE_COLOURS)))
    statuses, counts = np.unique(data.status, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rows = [(str(statuses[i]), float(counts[i]), number(int(counts[i]))) for i in order]
    parts.append(card("Cadaster rows by status", bars(rows, "#7b8794")))
    lead = "The most doubtful of each kind. Click a row to see it on the map."
    lists = [
        ("In the cadaster", [one for one in found if one.kind in ("low", "far")]),
        ("Between cadaster and image", [one for one in found if one.kind not in ("low", "far")]),
    ]
    listed = "".join(card(title, table(some)) for title, some in lists if some)
    return section("What to review first", lead, "two", "".join(parts) + listed)


def accuracy(scores: Mapping[str, Mapping[str, Any]]) -> str:
    if not scores:
        return ""
    cards = []
    for group, values in scores.items():
        rows = "".join(
            f"<tr><td>{escape(str(name))}</td><td class=n>{_fact(v)}</td></tr>" for name, v in values.items()
        )
        cards.append(card(str(group), f"<table><tbody>{rows}</tbody></table>"))
    return section("Accuracy against the truth", "", "two", "".join(cards))


def completeness(certificate: Mapping[str, Any]) -> str:
    counts: Mapping[str, int] = certificate.get("counts", {})
    legend = "".join(
        f"<span><i style='background:rgb{colour}'></i>{name} {number(int(counts.get(name, 0)))}</span>"
        for name, colour in VERDICTS.items()
        if name in counts or name in ("ok", "failed")
    )
    cards, others, failed = [], [], []
    for name, stage in certificate.get("stages", {}).items():
        said = ", ".join(f"{number(int(count))} {verdict}" for verdict, count in stage["counts"].items())
        bad = [key for key, verdict in stage["verdicts"].items() if verdict in ("failed", "missing")]
        failed += [f"{name} {key}: {stage['reasons'].get(key, '')}" for key in bad[:10]]
        if drawn := verdict_map(stage):
            cards.append(f"<div class='card stage'><h3>{escape(name)}</h3><small>{said}</small>{drawn}</div>")
        else:
            others.append(f"<tr><td>{escape(name)}</td><td>{said or 'nothing to do'}</td></tr>")
    if failed:
        listed = "".join(f"<li>{escape(line)}</li>" for line in failed)
        legend += f"</div><div class=card style='margin-bottom:14px'><h3>Failed</h3><ul>{listed}</ul>"
    lead = "One verdict for every tile of every stage, from its receipt. North is up, one square a tile."
    titles = {"alignment": "Alignment", "seams": "Seams", "window_border": "What a window's border does"}
    extra = "".join(_facts(title, certificate.get(name, {})) for name, title in titles.items())
    after = f"<div class=two style='margin-top:16px'>{extra}</div>" if extra else ""
    if others:
        half = -(-len(others) // 2)
        tables = "".join(f"<table><tbody>{''.join(part)}</tbody></table>" for part in (others[:half], others[half:]))
        after = (
            f"<div class=card style='margin-top:16px'><h3>Without tiles</h3><div class=two>{tables}</div></div>" + after
        )
    return section("Completeness", lead, "stages", "".join(cards), f"<div class=legend>{legend}</div>", after)


def times(data: ReportData) -> str:
    if not data.receipts and not data.phase_seconds:
        return ""
    by: dict[str, list[float]] = defaultdict(list)
    for receipt in data.receipts:
        by[_STEP.sub("", receipt.stage)].append(receipt.seconds)
    parts = []
    if data.phase_seconds:
        rows = [(name, seconds, _clock(seconds)) for name, seconds in data.phase_seconds.items()]
        parts.append(card("Wall time by phase", bars(rows, "#12a3b4")))
    rows = [
        (name, sum(times), f"{_clock(sum(times))}, {len(times)} × {number(float(np.median(times)))} s")
        for name, times in by.items()
    ]
    if rows:
        parts.append(card("Workers' time by stage: total, tasks × median", bars(rows, "#7b8794")))
    slow = sorted(data.receipts, key=lambda receipt: (-receipt.seconds, receipt.stage, receipt.key))[:8]
    if slow:
        lines = "".join(
            f"<tr><td>{escape(r.stage)}</td><td>{escape(r.key)}</td><td class=n>{number(r.seconds)}</td>"
            f"<td class=n>{number(r.peak_rss_mb, 0)}</td><td>{escape(r.status)}</td></tr>"
            for r in slow
        )
        head = "<tr><th>stage</th><th>tile</th><th class=n>seconds</th><th class=n>peak MB</th><th>verdict</th></tr>"
        parts.append(card("Slowest tasks", f"<table><thead>{head}</thead><tbody>{lines}</tbody></table>"))
    return section("Where the time went", "", "two", "".join(parts))


def about(data: ReportData) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in data.notes)
    files = "".join(f"<li>{escape(name)}</li>" for name in data.files)
    models = "".join(
        f"<tr><td>{escape(str(model.get('task', '')))}</td><td>{escape(str(model.get('name', '')))}</td>"
        f"<td>{escape(', '.join(f'{k} {number(v, 3)}' for k, v in dict(model.get('scores', {})).items()))}</td>"
        f"<td>{escape(str(model.get('licence', '')))}</td></tr>"
        for model in data.models
    )
    head = "<tr><th>task</th><th>model</th><th>scores on its card</th><th>licence</th></tr>"
    parts = [
        card("Models", f"<table><thead>{head}</thead><tbody>{models}</tbody></table>") if models else "",
        card("Notes", f"<ul>{notes}</ul>") if notes else "",
        card("Files beside this page", f"<ul>{files}</ul>") if files else "",
    ]
    settings = ""
    if data.settings:
        text = escape(json.dumps(dict(data.settings), indent=2, default=str, ensure_ascii=False))
        settings = f"<details class=card><summary>Settings of this run</summary><pre>{text}</pre></details>"
    return section("About this run", "", "two", "".join(parts), after=settings)


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    rows = "".join(f"<tr><td>{_words(name)}</td><td>{_fact(value)}</td></tr>" for name, value in facts.items())
    return card(title, f"<table><tbody>{rows}</tbody></table>")


def _words(name: object) -> str:
    return escape(str(name).replace("_", " "))


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(name)} {_fact(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:.3g}"
    return escape(str(value))


def section(title: str, lead: str, layout: str, body: str, before: str = "", after: str = "") -> str:
    if not body and not after:
        return ""
    said = f"<p class=lead>{lead}</p>" if lead else "<p></p>"
    return f"<section><h2>{title}</h2>{said}{before}<div class={layout}>{body}</div>{after}</section>"


def card(title: str, body: str) -> str:
    return f"<div class=card><h3>{escape(title)}</h3>{body}</div>"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 in its decade."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    decade = 10.0 ** np.floor(np.log10(value))
    return float(next(step * decade for step in (1, 2, 4, 6, 8, 10) if step * decade >= value * 0.999999))
