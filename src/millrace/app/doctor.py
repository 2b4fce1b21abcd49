"""What ``millrace doctor`` looks at. Every check answers by itself: one that fails never hides the others.

Nothing is changed and nothing is made: what is not there yet is said to be so. The log is opened as any process opens
it, checkpoints are read and their sums checked. SQLite may leave an empty ``-wal`` or ``-shm`` beside a file it read.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from millrace.app import wiring
from millrace.app.commands.printing import ago, count, size
from millrace.app.findings import Finding as Finding
from millrace.app.http_address import check_address, is_loopback
from millrace.app.human_time import WORLD_TIME
from millrace.app.keeper_lock import running_keeper
from millrace.app.rank_server_report import asked_servers
from millrace.app.secret import load_or_make_secret
from millrace.app.server_note import ServerNote, read_note, who_answers
from millrace.app.settings import CONFIG_NAME, Settings
from millrace.app.training_status import training_status
from millrace.app.virtual_time import check_virtual_time, has_virtual_time
from millrace.base.clock import Clock
from millrace.base.errors import ConfigError, MillraceError, StoreError
from millrace.inference.live_models import Artefact
from millrace.inference.precision import let_through
from millrace.stream.log import total

_NEEDED: Final = ("numpy", "numba", "msgspec", "litestar", "uvicorn", "prometheus_client")
_FEED_WINDOW_MS: Final = 48 * 3_600_000
_WHOSE: Final = {"other_home": "another home's server", "other_program": "another program"}


Check = Callable[[Settings, Clock], Iterator[Finding]]


def examine(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Yield a finding for everything that can go wrong on this machine and in this home folder."""
    checks: tuple[tuple[str, Check], ...] = (
        ("config", _config),
        ("python", _python),
        ("disk", _disk),
        ("event types", _event_types),
        ("params", _params),
        ("log", _log),
        ("dead letters", _dead_letters),
        ("checkpoints", _checkpoints),
        ("content", _content),
        ("warehouse", _warehouse),
        ("join", _join),
        ("guards", _guards),
        ("learner", _learner),
        ("claims", _claims),
        ("traces", _traces),
        ("models", _models),
        ("rank servers", _rank_servers),
        ("access", _access),
        ("time", _time),
        ("server", _server),
    )
    yield from _run(checks, settings, clock)


def examine_broken(home: Path, error: ConfigError, clock: Clock) -> Iterator[Finding]:
    """Yield findings for a home whose config cannot be used: its problems, and what can be checked without it."""
    for problem in error.problems:
        yield Finding("config", "problem", problem, f"correct {home / CONFIG_NAME}, the environment or --set")
    yield from _rejected(Settings(home))
    yield from _run((("python", _python), ("disk", _disk)), Settings(home), clock)
    yield Finding("the rest", "warning", "not looked at: it takes a config that can be used", "correct the config")


def _run(checks: Iterable[tuple[str, Check]], settings: Settings, clock: Clock) -> Iterator[Finding]:
    for name, check in checks:
        try:
            yield from check(settings, clock)
        except ConfigError as error:
            for problem in error.problems:
                yield Finding(name, "problem", problem, "correct the config")
        except MillraceError as error:
            yield Finding(name, "problem", f"{error.thing} {error.value!r}: {error.problem}", error.remedy)
        except (OSError, sqlite3.Error) as error:
            yield Finding(name, "problem", str(error), "check the path and its permissions")


def _config(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    n_set = len(settings.origin_by_key)
    yield Finding("config", "ok", f"{settings.config_path.name}: {count(n_set, 'value')} set, the rest as by default")


def _python(_settings: Settings, _clock: Clock) -> Iterator[Finding]:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    version = ".".join(map(str, sys.version_info[:3]))
    if missing:
        yield Finding("python", "problem", f"{version}, without {', '.join(missing)}", "pip install .")
    else:
        yield Finding("python", "ok", f"{version}, {os.cpu_count()} cores")


def _disk(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:  # the server makes what is missing
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        yield Finding("disk", "problem", f"{folder} cannot be written", "change its owner or mode")
        return
    free, needed = shutil.disk_usage(folder).free, settings.config.log.min_free_bytes
    detail = f"{size(free)} free for {settings.data_dir}"
    if free < needed:
        yield Finding("disk", "problem", detail, f"free some: below {size(needed)} appends are refused")
    elif free < 10 * needed:
        yield Finding("disk", "warning", detail, "free some soon")
    else:
        yield Finding("disk", "ok", detail)


def _event_types(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    n_types = len(list(wiring.build_codec(settings).registry))
    n_modules = len(settings.config.events.modules)
    yield Finding("event types", "ok", f"{n_types} types, {count(n_modules, 'module')} of your own")


def _params(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    config = settings.config
    try:
        wiring.check_params(settings)
    except ConfigError:
        yield from _rejected(settings)
        raise
    detail = f"profile {config.home.value_profile}, {count(len(config.params), 'param')} set in the config"
    yield Finding("params", "ok", detail)


def _rejected(settings: Settings) -> Iterator[Finding]:
    """Tell what a running server makes of a file that cannot be used."""
    if running_keeper(settings.data_dir) is not None:
        detail = "a server runs on this home: it rejects the file and keeps the params from before the edit"
        yield Finding("params", "warning", detail, "correct the file: a running server takes it up within a second")


def _log(settings: Settings, clock: Clock) -> Iterator[Finding]:
    if not wiring.has_log(settings):
        yield Finding("log", "warning", "empty: nothing was taken in yet", "try `millrace demo` or `millrace import`")
        return
    is_embedded = settings.config.log.backend == "sqlite"
    if is_embedded and (damage := _damage_of(settings.log_path)):
        yield Finding("log", "problem", f"damaged: {damage}", "restore a backup: `millrace restore`")
        return
    log = wiring.build_log(settings)
    begin, end = total(log.begin()), total(log.end())
    consumer = log.subscribe("doctor", start=(max(begin, end - 1),))
    newest = consumer.poll(1)
    consumer.close()
    log.close()
    place = size(settings.log_path.stat().st_size) if is_embedded else f"on {settings.config.log.backend}"
    detail = f"{count(end - begin, 'record')} kept of {end:,}, {place}"
    if not len(newest):
        yield Finding("log", "warning", detail, "take something in: `millrace demo`, `millrace import`")
        return
    quiet_ms = clock.now_ms() - int(newest.appended_ms[-1])
    detail += f", newest {ago(quiet_ms)}{_in_world_time(settings)}"
    if quiet_ms > _FEED_WINDOW_MS:
        yield Finding("log", "warning", detail, "feeds show 48 h: take in newer posts")
    else:
        yield Finding("log", "ok", detail)


def _damage_of(path: Path) -> str:
    """Return what is wrong with a SQLite file; empty if nothing is."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            return str(error)
    return "" if answer == "ok" else answer


def _dead_letters(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    if not wiring.has_log(settings):
        return
    log = wiring.build_log(settings)
    n_letters = sum(1 for _ in log.dead_letters())
    log.close()
    if n_letters:
        remedy = "see `millrace dead-letters list`, then replay or drop them"
        yield Finding("dead letters", "warning", count(n_letters, "letter"), remedy)
    else:
        yield Finding("dead letters", "ok", "none")


def _checkpoints(settings: Settings, clock: Clock) -> Iterator[Finding]:
    checkpoints = wiring.build_checkpoints(settings)
    if checkpoints.paths() and not wiring.has_log(settings):
        detail = f"there are checkpoints, but the log {settings.log_path.name} is gone"
        yield Finding("checkpoints", "problem", detail, "restore a backup")
        return
    log_id = ""
    if wiring.has_log(settings):
        log = wiring.build_log(settings)
        log_id = log.log_id
        log.close()
    found = list(checkpoints.inspect(log_id=log_id))
    if not found:
        yield Finding("checkpoints", "ok", "none yet; the server's keeper writes them")
    for status in found:
        if status.problem:
            yield Finding("checkpoints", "problem", status.problem, "it is left out; remove its folder")
        else:
            written = ago(clock.now_ms() - status.created_at_ms)
            detail = f"{status.path.name}: good, {size(status.n_bytes)}, written {written}{_in_world_time(settings)}"
            yield Finding("checkpoints", "ok", detail)


def _content(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    config = settings.config.content_store
    is_file = config.backend == "sqlite"
    if is_file and not settings.content_path.exists():
        yield _missing_content(settings)
        return
    reader = wiring.build_content_reader(settings)
    try:
        position = total(reader.position())
    except StoreError as error:
        yield Finding("content", "problem", f"{error.thing} {error.value}: {error.problem}", error.remedy)
        return
    finally:
        reader.close()
    log = wiring.build_log(settings)
    behind = total(log.end()) - position
    log.close()
    where = size(settings.content_path.stat().st_size) if is_file else f"PostgreSQL schema {config.schema}"
    detail = f"{where}, {count(max(behind, 0), 'record')} behind the log"
    if behind < 0:
        yield Finding("content", "problem", detail + " (ahead of it!)", "restore log and content from one backup")
    else:
        yield Finding("content", "ok", detail)


def _missing_content(settings: Settings) -> Finding:
    if not wiring.has_log(settings):
        return Finding("content", "ok", "no file yet; the server's keeper writes it")
    log = wiring.build_log(settings)
    begin, end = total(log.begin()), total(log.end())
    log.close()
    detail = f"no {settings.content_path.name}, though the log holds {count(end - begin, 'record')}"
    if end == 0:
        return Finding("content", "ok", "no file yet; the server's keeper writes it")
    if begin > 0:
        return Finding(
            "content",
            "problem",
            f"{detail}; texts and names from before log position {begin:,} are in no other place",
            "restore a backup: `millrace restore`",
        )
    return Finding("content", "warning", detail, "`millrace serve` or `millrace checkpoint` makes it from the log")


def _warehouse(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    from millrace.flywheel.warehouse import Warehouse

    if not settings.warehouse_dir.exists():
        yield Finding("warehouse", "ok", "none yet; the server's keeper exports to it")
        return
    warehouse = Warehouse(settings.warehouse_dir, wiring.build_codec(settings))
    position = warehouse.position()
    problems = warehouse.problems()
    for path, problem in problems:
        remedy = "restore it from a backup, or remove it: erasures wait for it"
        yield Finding("warehouse", "problem", f"{path} cannot be read ({problem})", remedy)
    if not problems:
        yield Finding("warehouse", "ok", f"exported up to log position {total(position or (0,)):,}")


def _join(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    from millrace.app.join_copy import join_finding

    verdict, detail, remedy = join_finding(settings, wiring.build_clock().now_ms())
    yield Finding("join", verdict, detail, remedy)


def _guards(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    from millrace.app.near_line import is_wanted, read_report
    from millrace.app.roles_beside import near_line_problem

    if not is_wanted(settings):
        yield Finding("guards", "ok", "switched off, and near-line learning with them")
        return
    now_ms, report = wiring.build_clock().now_ms(), read_report(settings)
    if problem := near_line_problem(settings, now_ms):
        yield Finding("guards", "warning", problem, "correct what they name; meanwhile no ranker is taken back")
    elif report is None:
        yield Finding("guards", "ok", "they have not looked yet; the server's near-line process does it")
    else:
        yield Finding(
            "guards", "ok", f"{count(len(report.models), 'ranker')} watched, last {ago(now_ms - report.at_ms)}"
        )


def _learner(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    from millrace.app.roles_beside import learner_problem, learns_on

    if not learns_on(settings):
        return
    if problem := learner_problem(settings, wiring.build_clock().now_ms()):
        yield Finding("learner", "warning", problem, "`millrace flywheel run --once` by hand says it, too")
    else:
        yield Finding(
            "learner", "ok", "it learns on beside the server; `millrace flywheel status` tells what came of it"
        )


def _claims(settings: Settings, clock: Clock) -> Iterator[Finding]:
    backend = settings.config.claims.backend
    if backend == "sqlite":
        yield from _claim_files(settings.claims_path)
        return
    store = wiring.build_claims(settings)
    store.claimed(0, clock.now_ms())
    store.close()
    yield Finding("claims", "ok", f"{backend} answers")


def _claim_files(claims: Path) -> Iterator[Finding]:
    """Look at the claims, and at the file of pages and limits beside them."""
    lost_by_path = {
        claims: "viewers may then get posts that they had",
        claims.with_name("pages.db"): "pages that are being scrolled then begin anew",
    }
    sizes = []
    for path, lost in lost_by_path.items():
        if not path.exists():
            continue
        if damage := _damage_of(path):
            remedy = f"restore a backup; or stop the server and remove the file: {lost}"
            yield Finding("claims", "problem", f"{path.name} is damaged: {damage}", remedy)
        else:
            sizes.append(f"{path.name}: good, {size(path.stat().st_size)}")
    if not any(path.exists() for path in lost_by_path):
        yield Finding("claims", "ok", "no file yet; the server makes it")
    elif sizes:
        yield Finding("claims", "ok", "; ".join(sizes))


def _traces(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    from millrace.stores.trace_store import trace_files

    if not settings.config.traces.is_on:
        yield Finding("traces", "ok", "none are kept (`traces.is_on`)")
        return
    is_good_by_path = trace_files(settings.traces_dir)
    for path in (path for path, is_good in is_good_by_path.items() if not is_good):
        remedy = "the process that takes its place begins it anew; its requests cannot be asked about"
        yield Finding("traces", "warning", f"{path.name} is damaged or of another version", remedy)
    good = [path for path, is_good in is_good_by_path.items() if is_good]
    if good:
        n_bytes = sum(path.stat().st_size for path in good)
        yield Finding("traces", "ok", f"{count(len(good), 'file')}, {size(n_bytes)}")
    elif not is_good_by_path:
        yield Finding("traces", "ok", "none yet; a server writes them")


def _models(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    if (training := training_status(settings)) is not None:
        yield Finding("models", "ok", training.words())
    if folders := wiring.model_folders(settings):
        wiring.build_models(settings)  # raises what is wrong with them
        named = ", ".join(f"{kind} of {folder}" for kind, folder in folders.items())
        runs = _runs(settings, folders.get("ranker"))
        yield Finding("models", "ok", f"{named}, whatever the registry says{runs}")
        return
    registry = wiring.build_registry(settings)
    pointer = registry.pointer()
    if pointer is None:
        yield Finding("models", "ok", "none: counters rank (millrace train --promote)")
        return
    loader = wiring.build_model_loader(settings)
    for lane in sorted(pointer.lanes):
        versions = pointer.serving(lane)
        manifests = {kind: registry.verify(kind, version) for kind, version in versions.items()}
        artefacts = {kind: Artefact(registry.folder(kind, m.version), m) for kind, m in manifests.items()}
        if problem := loader.check(artefacts):
            yield Finding("models", "problem", f"lane {lane}: {problem}", "train anew, or millrace models rollback")
            continue
        named = ", ".join(f"{kind} {version}" for kind, version in sorted(versions.items())) or "nothing"
        newest_ms = max((m.published_at_ms for m in manifests.values()), default=0)
        # Models are made in real time, whatever time it is in the home's world.
        old = f", newest of {ago(wiring.build_clock().now_ms() - newest_ms)}" if manifests else ""
        ranker = artefacts.get("ranker")
        runs = _runs(settings, None if ranker is None else ranker.path)
        yield Finding("models", "ok", f"lane {lane}: {named}{old}{runs}")


def _runs(settings: Settings, ranker: Path | None) -> str:
    """Return what runs a ranker, and what it multiplies in, as an addition to a line; nothing without a ranker."""
    home = settings.config.home
    if ranker is None:
        return ""
    if home.rank_servers:
        return "; run by rank servers"
    served, reason = let_through(ranker, home.precision)
    instead = f", not in {home.precision}: {reason}" if reason else ""
    return f"; run by {home.runner} in {served}{instead}"


def _rank_servers(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    addresses = settings.config.home.rank_servers
    if not addresses:
        return
    folder = wiring.everybodys_ranker(settings)
    if folder is None:
        yield Finding("rank servers", "ok", f"{', '.join(addresses)}: not asked, no ranker serves everybody")
        return
    for address, problem in asked_servers(folder, addresses):
        if problem:
            remedy = "start it: millrace rank-server; or see its log"
            yield Finding("rank servers", "problem", f"{address}: {problem}", remedy)
        else:
            yield Finding("rank servers", "ok", f"{address} holds the ranker")


def _access(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    for path in (settings.secret_path, settings.keys_path):
        if path.exists() and (mode := path.stat().st_mode & 0o777) & 0o077:
            detail = f"{path.name} can be read by others (mode {mode:o})"
            yield Finding("access", "problem", detail, f"chmod 600 {path}; then think about making it anew")
    keys = wiring.build_api_keys(settings).all()
    if settings.config.auth.mode == "development":
        yield Finding("access", "ok", "development mode: this machine only, and anybody may ask for anything")
        return
    if settings.secret_path.exists():
        load_or_make_secret(settings)
    detail = f"tokens mode, {count(len(keys), 'API key')}"
    if not is_loopback(settings.config.server.host):
        detail += f"; {settings.config.server.host} is reachable from outside, so let TLS end in front of it"
    if any(key.role == "admin" for key in keys):
        yield Finding("access", "ok", detail)
    else:
        yield Finding("access", "warning", f"{detail}; none for an operator", "millrace keys add NAME --role admin")


def _time(settings: Settings, clock: Clock) -> Iterator[Finding]:
    from millrace.mixer.response import iso_time

    if has_virtual_time(settings):
        check_virtual_time(settings.config)
        yield Finding("time", "ok", f"virtual: ticks in the log move it; it is {iso_time(clock.now_ms())} there")


def _in_world_time(settings: Settings) -> str:
    return f" ({WORLD_TIME})" if has_virtual_time(settings) else ""


def _server(settings: Settings, _clock: Clock) -> Iterator[Finding]:
    check_address(settings.config)
    host, port = settings.config.server.host, settings.config.server.port
    keeper = running_keeper(settings.data_dir)
    note = read_note(settings) if keeper is not None else None  # of a server that has ended it says nothing
    if keeper is not None:
        yield _own_server(keeper, note)
    is_own = note is not None and (note.host, note.port) == (host, port)
    answers = "nobody" if is_own or port == 0 else who_answers(host, port, "" if note is None else note.server_id)
    if answers in _WHOSE:
        detail = f"{host}:{port} is answered by {_WHOSE[answers]}"
        if keeper is None:
            detail += ", and no server runs on this home"
        yield Finding("server", "warning", detail, "stop that one, or choose another port: `millrace serve --port`")
    elif keeper is None:
        yield Finding("server", "ok", f"{host}:{port} is free")


def _own_server(keeper: int, note: ServerNote | None) -> Finding:
    """Tell of this home's server, wherever it is bound; the keeper's lock says that it runs."""
    runs = f"this home's server runs (its keeper is process {keeper})"
    if note is None:
        return Finding("server", "ok", f"{runs}; it is starting")
    where, answers = f"{note.host}:{note.port}", who_answers(note.host, note.port, note.server_id)
    if answers == "this":
        return Finding("server", "ok", f"{runs} and answers at {where}")
    detail = f"{runs}, but {where} is answered by {_WHOSE.get(answers, answers)}"
    return Finding("server", "warning", detail, "it is starting, ending or stuck: look again; else start it again")
