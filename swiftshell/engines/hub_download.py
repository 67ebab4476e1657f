"""Bring a model or a data set into the workspace: from a hub, a local folder or the starter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftshell import starter
from swiftshell.engines import hub_dataset, hub_model, hub_modelscope
from swiftshell.engines.hub_errors import Repo, from_disk, nearest, offline_missing
from swiftshell.engines.hub_fetch import Fetcher
from swiftshell.engines.hub_place import Placed, place
from swiftshell.engines.hub_repo import Listing, open_repo, remember_revision, resolve
from swiftshell.errors import EXIT_NO_RESOURCES, fail
from swiftshell.machine.disk import GIB, existing, free_bytes
from swiftshell.run import artifact
from swiftshell.stages.base import Context, InputRef, Outcome, StepRequest

# Room left free on the disk beyond what is fetched: logs, records and other programs need some too.
RESERVE_BYTES = 256 << 20
MIB = 1 << 20


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Fetch, verify and place what the step's input names; record where it came from and what it is."""
    started = time.monotonic()
    slot = next(s for s in ("model", "dataset") if request.inputs.get(s) is not None)
    ref = request.input(slot)
    if ref.options.get("source") == "ms":
        facts, summary = _from_modelscope(slot, ref, ctx)
    elif ref.options.get("repo"):
        facts, summary = _from_hub(slot, ref, request.params, ctx)
    else:
        facts, summary = _from_folder(slot, ref, ctx)
    if slot == "model":
        facts["stack"] = [{"kind": facts["kind"], "path": ".", "name": facts["name"], "source": facts["source"]}]
    seconds = round(time.monotonic() - started, 3)
    metrics = {f"{name}_mib": round(summary[f"{name}_bytes"] / MIB, 1) for name in ("size", "received")}
    return Outcome({slot: facts}, metrics, {**summary, "seconds": seconds})


def _from_hub(slot: str, ref: InputRef, params: Any, ctx: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fetch from a hub into its cache, then place the files."""
    ctx.phase("resolving")
    repo = open_repo(slot, dict(ref.options))
    listing = resolve(repo)
    ctx.note("download.resolved", repo=repo.name, revision=repo.revision or "main", commit=listing.commit[:12])
    if slot == "model":
        names, facts, fetcher = _model_files(repo, listing, params, ctx)
    else:
        names, facts, fetcher = _data_files(repo, listing, params, ref.options, ctx)
    if not listing.offline:
        remember_revision(repo, listing.commit)
    sources = {n: fetcher.pointer(listing.files[n]) for n in names}
    folder = ctx.out / slot
    placed = _place(sources, folder, ctx)
    if slot == "model":
        facts = hub_model.inspect(folder, repo.name, ctx.warn)
    source = {"kind": "hub", "repo": repo.name, "revision": listing.commit, "asked": repo.revision}
    meter = fetcher.meter
    summary = {"source": repo.name, "revision": listing.commit, "files": len(names), "offline": listing.offline,
               "received_bytes": meter.received, "resumed_bytes": meter.resumed, "retries": meter.retries,
               **_sizes(folder, placed)}
    return {"name": repo.name.split("/")[-1], **facts, "source": source}, summary


def _model_files(repo: Repo, listing: Listing, params: Any,
                 ctx: Context) -> tuple[list[str], dict[str, Any], Fetcher]:
    """Fetch a model: configuration first, so that what cannot be used is refused before gigabytes move."""
    small, weights = hub_model.choose(listing.files, params.allow_patterns, params.ignore_patterns, repo.name)
    fetcher = _fetcher(repo, listing, small + weights, params, ctx)
    _fetch(fetcher, listing, small, ctx)
    hub_model.check_config(fetcher.pointer(listing.files["config.json"]).parent, repo.name, lambda *_, **__: None)
    _fetch(fetcher, listing, weights, ctx)
    return small + weights, {}, fetcher


def _data_files(repo: Repo, listing: Listing, params: Any, options: Mapping[str, Any],
                ctx: Context) -> tuple[list[str], dict[str, Any], Fetcher]:
    """Fetch a data set: its card, which may say what is what, then the chosen files."""
    card = [n for n in ("README.md",) if n in listing.files and not (listing.offline and not _cached(repo, listing, n))]
    first = _fetcher(repo, listing, card, params, ctx)
    _fetch(first, listing, card, ctx)
    text = first.pointer(listing.files["README.md"]).read_text(encoding="utf-8", errors="replace") if card else ""
    choice = hub_dataset.choose(listing.files, text, options, repo.name)
    fetcher = _fetcher(repo, listing, list(choice.files), params, ctx)
    _fetch(fetcher, listing, list(choice.files), ctx)
    fetcher.meter.add(0, received=first.meter.received, resumed=first.meter.resumed, retries=first.meter.retries)
    return [*choice.files, *card], _data_facts(choice), fetcher


def _cached(repo: Repo, listing: Listing, name: str) -> bool:
    return (repo.folder / "snapshots" / listing.commit / name).is_file()


def _fetcher(repo: Repo, listing: Listing, names: list[str], params: Any, ctx: Context) -> Fetcher:
    """Return the fetcher for these files, once it is certain that they fit on the disk."""
    files = listing.some(names)
    fetcher = Fetcher(repo, listing.commit, ctx, max_workers=params.max_workers, verify=params.verify,
                      total=sum(f.size for f in files), offline=listing.offline)
    needed, free = fetcher.missing_bytes(files), free_bytes(repo.cache)
    if not listing.offline and needed and needed + RESERVE_BYTES > free:
        raise fail("download.disk_full", needed_gib=f"{needed / GIB:.2f}", free_gib=f"{free / GIB:.2f}",
                   folder=str(repo.cache), name=repo.name, exit_code=EXIT_NO_RESOURCES)
    return fetcher


def _fetch(fetcher: Fetcher, listing: Listing, names: list[str], ctx: Context) -> None:
    files = listing.some(names)
    if listing.offline:
        absent = [f.path for f in files if not fetcher.pointer(f).is_file()]
        if absent:
            raise offline_missing(fetcher.repo, absent)
    if files:
        ctx.phase("downloading")
        fetcher.fetch(files)


def _from_modelscope(slot: str, ref: InputRef, ctx: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fetch with ModelScope's package into its cache, then check and place the files as those of a folder."""
    folder = hub_modelscope.fetch(slot, ref, ctx)
    files, facts = _local_model(folder, ctx) if slot == "model" else _local_data(folder, ref.options)
    placed = _place(files, ctx.out / slot, ctx)
    repo = str(ref.options["repo"])
    source = {"kind": "modelscope", "repo": repo, "asked": ref.options.get("revision")}
    summary = {"source": f"ms://{repo}", "files": len(files), **_sizes(ctx.out / slot, placed)}
    summary["received_bytes"] = summary["size_bytes"]
    return {"name": repo.split("/")[-1], **facts, "source": source}, summary


def _from_folder(slot: str, ref: InputRef, ctx: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check a local folder or file, or the starter, and place it. Nothing is fetched."""
    which = ref.options.get("starter")
    path = _starter(slot, which) if which else Path(str(ref.options.get("path") or ref.path)).expanduser().absolute()
    if not path.exists():
        raise fail("download.path_missing", path=str(path), nearest=_nearest_path(path), file=str(path))
    ctx.phase("checking")
    if slot == "model":
        files, facts = _local_model(path, ctx)
    else:
        files, facts = _local_data(path, ref.options)
    folder = ctx.out / slot
    placed = _place(files, folder, ctx)
    source = {"kind": "starter", "name": str(which)} if which else {"kind": "folder", "path": str(path)}
    if which:
        facts["name"] = "starter" if slot == "model" else f"starter-{path.stem}"
    summary = {"source": "starter" if which else str(path), "files": len(files), "received_bytes": 0,
               **_sizes(folder, placed)}
    return {"name": path.stem if path.is_file() else path.name, **facts, "source": source}, summary


def _starter(slot: str, which: Any) -> Path:
    """Return the embedded model, or the data file of a purpose (`sft`, `kto`, `dpo`, `heldout`)."""
    path = starter.MODEL_DIR if slot == "model" else starter.DATA_DIR / f"{'sft' if which is True else which}.jsonl"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in starter.DATA_DIR.glob("*.jsonl"))) or "-"
        raise fail("download.starter_missing", wanted=str(which), known=known, path=str(path))
    return path


def _local_model(path: Path, ctx: Context) -> tuple[dict[str, Path], dict[str, Any]]:
    if not path.is_dir():
        raise fail("download.not_a_folder", path=str(path), file=str(path))
    names = _names(path)
    small, weights = hub_model.choose(names, [], [], str(path))
    facts = hub_model.inspect(path, str(path), ctx.warn)
    return {n: names[n] for n in small + weights}, facts


def _local_data(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Path], dict[str, Any]]:
    if path.is_file():
        files = {path.name: path}
        if not hub_dataset.is_data(path.name):
            raise fail("download.no_data_files", where=str(path), found=path.name, file=str(path),
                       formats=" ".join(hub_dataset.FORMATS))
        choice = hub_dataset.Choice((path.name,), str(options.get("split") or "train"), None, "file")
    else:
        files = _names(path)
        card = files["README.md"].read_text(encoding="utf-8", errors="replace") if "README.md" in files else ""
        record = artifact.read(path) or {}
        made = [n for n in record.get("data_files") or [] if n in files]
        choice = (hub_dataset.Choice(tuple(made), str(record.get("split") or "train"), record.get("config"), "card")
                  if made else hub_dataset.choose(files, card, options, str(path)))
    empty = [n for n in choice.files if files[n].stat().st_size == 0]
    if empty:
        raise fail("download.data_empty", where=str(path), name=empty[0], file=str(files[empty[0]]))
    return {n: files[n] for n in choice.files}, _data_facts(choice)


def _data_facts(choice: hub_dataset.Choice) -> dict[str, Any]:
    return {"kind": "dataset", "data_files": list(choice.files), "split": choice.split, "config": choice.config,
            "decided_by": choice.decided_by}


def _names(folder: Path) -> dict[str, Path]:
    """Return a folder's files by their name relative to it."""
    return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}


def _nearest_path(path: Path) -> str:
    """Return the path's nearest neighbour: what a typo was meant to be, or the parent that exists."""
    parent = existing(path)
    part = path.relative_to(parent).parts[0]
    near = nearest(part, [p.name for p in parent.iterdir()]) if parent.is_dir() else ""
    return str(parent / near) if near else str(parent)


def _place(files: Mapping[str, Path], folder: Path, ctx: Context) -> Placed:
    ctx.phase("placing")
    try:
        placed = place(files, folder)
    except OSError as error:
        raise from_disk(error, folder) from error
    if placed.pointed:
        ctx.note("download.points_elsewhere", count=placed.pointed,
                 folder=str(next(iter(files.values())).resolve().parent))
    return placed


def _sizes(folder: Path, placed: Placed) -> dict[str, Any]:
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {"size_bytes": size, **placed._asdict()}
