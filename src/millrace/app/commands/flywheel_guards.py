"""``millrace flywheel guards``: what the guards say of the rankers that serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings

if TYPE_CHECKING:
    from millrace.flywheel.guards.readings import Reading


def guards(home: HomeOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Show each guard's value, interval, threshold and state, and the versions that were taken away.

    Of each ranker that was served lately, as of the guards' last look. It also says for which actions near-line
    calibration and the fast layer have proved their worth and are used.

    Example: millrace flywheel guards --json
    """
    from millrace.app.commands.printing import ago, out, plain, print_json, print_table
    from millrace.app.human_time import event_time
    from millrace.app.near_line import read_report
    from millrace.app.virtual_time import has_virtual_time
    from millrace.app.wiring import build_clock

    settings = open_settings(home, overrides)
    report = read_report(settings)
    if as_json:
        print_json(report)
        return
    if report is None:
        out().print("No guard has looked yet: they run beside `millrace serve`.", markup=False)
        return
    looked = ago(build_clock().now_ms() - report.at_ms)
    if has_virtual_time(settings) and report.event_ms:
        looked += f" in real time, at {event_time(report.event_ms, is_virtual=True)}"
    out().print(f"The guards looked {looked}; their process takes {report.cpu_share:.1%} of a core.", markup=False)
    if not report.models:
        out().print("No learned ranker has been served since they began.", markup=False)
    for model in report.models:
        print_table(
            f"Ranker {model.model}: {model.n_pages:,} pages, {model.n_rows:,} rows that were seen",
            ("guard", "value", "interval", "threshold", "rows", "state"),
            [(_name(r), _value(r), _interval(r), _threshold(r), f"{r.n_rows:,}", r.state) for r in model.readings],
        )
        for part, heads in report.open_heads.get(model.model, {}).items():
            said = ", ".join(heads) if heads else "no action yet"
            out().print(plain(f"near-line {part}: in use for {said}"), markup=False)
    for version, reason in report.withdrawn.items():
        out().print(plain(f"{version} was taken away: {reason}"), markup=False)


def _name(reading: Reading) -> str:
    return f"{reading.guard} of {reading.of}"


def _value(reading: Reading) -> str:
    return "" if reading.state == "waiting" else f"{reading.value:.3f}"


def _interval(reading: Reading) -> str:
    return "" if reading.low == reading.high else f"{reading.low:.3f} to {reading.high:.3f}"


def _threshold(reading: Reading) -> str:
    return "" if reading.threshold is None else f"{reading.threshold:g}"
