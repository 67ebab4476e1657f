"""Fetch files of a hub repository into the hub cache so that a broken-off download goes on where it stopped.

huggingface_hub 2.4 writes to a file with a random name and removes it on failure, so after a kill it starts from zero.
Here the bytes go to a partial file with a fixed name beside their place in the cache; the next attempt asks for the
rest. The cache's layout, locks, session, token and headers stay huggingface_hub's, so that other programs share the
result. A file enters the cache under its hash only after the hash was checked.

Xet is left aside (plain ranges over HTTP are what makes continuing exact), except for single files above the size that
the hub hands out over plain HTTP.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from swiftshell.engines.hub_errors import RETRIED_STATUSES, Repo, from_disk, translate
from swiftshell.errors import EXIT_STAGE, SwiftshellError, fail
from swiftshell.stages.base import Context, Stopped

# Waits between attempts that brought nothing new; after the last one the download gives up (and can be continued).
RETRY_WAITS_S: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
LONGEST_WAIT_S = 60.0
READ_TIMEOUT_S = 20.0
POLL_S = 0.1


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: `oid` is its sha256 if it is a big one (LFS), else its git blob id; empty if unknown."""

    path: str
    size: int
    oid: str


@dataclass
class Meter:
    """Count bytes across the downloading threads; only the main thread reports them."""

    total: int
    done: int = 0
    received: int = 0  # over the network, this time
    resumed: int = 0  # found in partial files of an earlier attempt
    retries: int = 0
    stop: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def add(self, done: int, received: int = 0, resumed: int = 0, retries: int = 0) -> None:
        """Count bytes that are here now, that came over the network, that an earlier attempt had left."""
        with self._lock:
            self.done += done
            self.received += received
            self.resumed += resumed
            self.retries += retries

    def check(self) -> None:
        """Raise `Stopped` if the work is to end."""
        if self.stop.is_set():
            raise Stopped


class Fetcher:
    """Fetch and verify files of one commit of a repository."""

    def __init__(self, repo: Repo, commit: str, ctx: Context, *, max_workers: int, verify: bool, total: int,
                 offline: bool = False) -> None:
        self.repo, self.commit, self.ctx, self.offline = repo, commit, ctx, offline
        self.max_workers, self.verify = max_workers, verify
        self.meter = Meter(total)

    def pointer(self, file: RemoteFile) -> Path:
        """Return where the cache shows the file."""
        return self.repo.folder / "snapshots" / self.commit / file.path

    def blob(self, file: RemoteFile) -> Path:
        """Return where the cache keeps the file's bytes."""
        return self.repo.folder / "blobs" / file.oid

    def partial(self, file: RemoteFile) -> Path:
        """Return the file that collects the bytes; one a user, since a shared cache has several."""
        return self.blob(file).with_name(f"{file.oid}.{os.getuid()}.incomplete")

    def here(self, file: RemoteFile) -> Path | None:
        """Return the file in the cache, or None."""
        return next((p for p in (self.pointer(file), self.blob(file)) if p.is_file()), None)

    def missing_bytes(self, files: Iterable[RemoteFile]) -> int:
        """Return how much is still to come, partial files counted as here."""
        return sum(f.size - _size(self.partial(f)) for f in files if self.here(f) is None)

    def fetch(self, files: list[RemoteFile]) -> None:
        """Bring files into the cache, verified, several at a time.

        Raises:
            Stopped: a stop was asked for; the partial files stay.
            SwiftshellError: a file cannot be fetched, or is not what the hub says it is.
        """
        unique = list({f.oid or f.path: f for f in files}.values())  # two names for the same bytes are one download
        try:
            self._in_threads(self._bring, unique)
        except (Stopped, SwiftshellError):
            raise
        except Exception as error:
            clear = translate(error, self.repo)
            if clear is None:
                raise
            raise clear from error
        self.meter.add(sum(f.size for f in files) - sum(f.size for f in unique))
        self.ctx.progress(self.meter.done, self.meter.total, "bytes")
        for file in files:
            self._show(file)

    def _in_threads(self, work: Callable[[RemoteFile], None], files: list[RemoteFile]) -> None:
        with ThreadPoolExecutor(self.max_workers) as pool:
            waiting: set[Future[None]] = {pool.submit(work, f) for f in files}
            done: set[Future[None]] = set()
            while waiting and not any(f.exception() for f in done):
                finished, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_EXCEPTION)
                done |= finished
                self.ctx.progress(self.meter.done, self.meter.total, "bytes")
                if self.ctx.stop_requested():
                    self.meter.stop.set()
            if waiting:
                self.meter.stop.set()
        errors = [e for f in done | waiting if (e := f.exception()) is not None]
        for error in errors:  # the others were only told to stop because of the first
            if not isinstance(error, Stopped):
                raise error
        if errors:
            raise errors[0]

    def _bring(self, file: RemoteFile) -> None:
        """Make sure one file is in the cache and is what the hub says it is."""
        self.meter.check()
        found = self.here(file)
        if found is not None:
            if not self.verify or matches(found, file, self.meter):
                self.meter.add(file.size)
                return
            self._drop(found, file)
        if self._by_library(file):
            return
        for _ in range(2):  # wrong bytes are fetched anew once
            with self._lock_of(file):
                if self.here(file) is not None:  # another program brought it while we waited
                    self.meter.add(file.size)
                    return
                if self._download(file):
                    return
        raise self._wrong_bytes(file)

    def _wrong_bytes(self, file: RemoteFile) -> SwiftshellError:
        return fail("download.hash_mismatch", repo=self.repo.name, name=file.path, expected=file.oid,
                    endpoint=self.repo.endpoint, exit_code=EXIT_STAGE)

    def _show(self, file: RemoteFile) -> None:
        """Show a file in the commit's snapshot, as huggingface_hub does: a relative link to the bytes."""
        pointer = self.pointer(file)
        if pointer.is_file():
            return
        try:
            pointer.parent.mkdir(parents=True, exist_ok=True)
            pointer.unlink(missing_ok=True)  # a link whose bytes were removed
            try:
                pointer.symlink_to(os.path.relpath(self.blob(file), pointer.parent))
            except OSError:  # a file system without symbolic links
                shutil.copyfile(self.blob(file), pointer)
        except FileExistsError:  # another program was faster
            return
        except OSError as error:
            raise from_disk(error, self.repo.cache) from error

    def _drop(self, found: Path, file: RemoteFile) -> None:
        """Remove a damaged file from the cache, unless there is no way to fetch it again."""
        if self.offline:
            raise fail("download.cache_damaged_offline", path=str(found.resolve()), name=file.path, repo=self.repo.name,
                       exit_code=EXIT_STAGE)
        try:
            for path in {found, found.resolve(), self.pointer(file)}:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise fail("download.cache_damaged", path=str(found.resolve()), name=file.path, reason=error.strerror,
                       exit_code=EXIT_STAGE) from error
        self.meter.add(0, retries=1)

    def _download(self, file: RemoteFile) -> bool:
        """Fetch one file; False if its bytes were wrong (they are gone then)."""
        partial = self.partial(file)
        self._collect(file, partial)
        if not matches(partial, file, self.meter):
            self.meter.add(-_size(partial), retries=1)
            partial.unlink()
            return False
        os.replace(partial, self.blob(file))
        return True

    def _by_library(self, file: RemoteFile) -> bool:
        """Let huggingface_hub fetch what the hub hands out to its Xet client only; False if that is not needed here.

        Called without holding the file's lock: the library takes the same one.
        """
        from huggingface_hub import constants, hf_hub_download

        if file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
            return False
        try:
            path = hf_hub_download(self.repo.name, file.path, repo_type=self.repo.kind, revision=self.commit,
                                   cache_dir=self.repo.cache, endpoint=self.repo.endpoint)
        except ValueError:  # no Xet here, or a mirror without it: the mirror may well hand the file out itself
            return False
        self.meter.add(file.size, received=file.size)
        if not matches(Path(path), file, self.meter):
            raise self._wrong_bytes(file)
        return True

    def _collect(self, file: RemoteFile, partial: Path) -> None:
        """Bring the partial file to its full length, over as many connections as it takes.

        Only attempts that bring nothing are counted, so a bad line is slow but never fatal while it delivers.
        """
        if _size(partial) > file.size:
            partial.unlink()
        self.meter.add(_size(partial), resumed=_size(partial))
        idle = 0
        while (before := _size(partial)) < file.size or not partial.exists():
            failure, asked_s = self._try(file, partial)
            if _size(partial) >= file.size and failure is None:
                return
            idle = 0 if _size(partial) > before else idle + 1
            if idle >= len(RETRY_WAITS_S):
                raise self._gave_up(file, partial, failure, idle) from failure
            self.meter.add(0, retries=1)
            self._pause(max(asked_s, RETRY_WAITS_S[idle]))

    def _try(self, file: RemoteFile, partial: Path) -> tuple[Exception | None, float]:
        """Open one connection; return what broke it, if that is worth another attempt, and the wait it asks for."""
        try:
            self._stream(file, partial)
        except Exception as error:
            asked_s = _wait_s(error)
            if asked_s < 0:
                raise
            return error, asked_s
        return None, 0.0

    def _gave_up(self, file: RemoteFile, partial: Path, error: BaseException | None,
                 tries: int) -> SwiftshellError:
        reason = (" ".join(str(error).split())[:200] or type(error).__name__) if error else "-"
        done_mib, total_mib = (f"{size / 2**20:.1f}" for size in (_size(partial), file.size))
        return fail("download.broken_off", repo=self.repo.name, name=file.path, done_mib=done_mib, total_mib=total_mib,
                    tries=tries, reason=reason, endpoint=self.repo.endpoint, exit_code=EXIT_STAGE)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + min(seconds, LONGEST_WAIT_S)
        while (left := end - time.monotonic()) > 0:
            self.meter.check()
            time.sleep(min(left, POLL_S))

    def _stream(self, file: RemoteFile, partial: Path) -> None:
        """Append what one connection delivers. The address is asked for anew each time: signed ones expire."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        have = _size(partial)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        url = hf_hub_url(self.repo.name, file.path, repo_type=self.repo.kind, revision=self.commit,
                         endpoint=self.repo.endpoint)
        with get_session().stream("GET", url, headers=headers, timeout=READ_TIMEOUT_S,
                                  follow_redirects=True) as response:
            hf_raise_for_status(response)
            if have and not _continues(response, have):  # the server sends everything again
                self.meter.add(-have)
                have = 0
            partial.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("ab" if have else "wb", buffering=0) as out:  # unbuffered: a kill loses nothing
                for piece in response.iter_bytes():
                    out.write(piece)
                    self.meter.add(len(piece), received=len(piece))
                    self.meter.check()
                os.fsync(out.fileno())

    @contextlib.contextmanager
    def _lock_of(self, file: RemoteFile) -> Iterator[None]:
        """Hold the lock huggingface_hub holds for this file, so that two programs do not fetch it twice."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock

        path = self.repo.cache / ".locks" / self.repo.folder.name / f"{file.oid}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.blob(file).parent.mkdir(parents=True, exist_ok=True)
        lock: Any = None
        while lock is None:
            self.meter.check()
            candidate = WeakFileLock(path, timeout=0.5)
            with contextlib.suppress(Timeout):
                candidate.__enter__()
                lock = candidate
        try:
            yield
        finally:
            lock.__exit__(None, None, None)


def matches(path: Path, file: RemoteFile, meter: Meter | None = None) -> bool:
    """Tell whether a file has the size and the hash the hub names: sha256 for big files, git's blob id for others."""
    size = path.stat().st_size
    if size != file.size:
        return False
    if len(file.oid) not in (40, 64):
        return True
    digest = hashlib.sha256() if len(file.oid) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
            if meter is not None:
                meter.check()
    return digest.hexdigest() == file.oid


def retrying(work: Callable[[], Any], waits_s: Iterable[float]) -> Any:
    """Call a look-up, again after each wait if the network or the hub is out of order."""
    for wait_s in waits_s:
        try:
            return work()
        except Exception as error:
            asked_s = _wait_s(error)
            if asked_s < 0:
                raise
            time.sleep(min(max(asked_s, wait_s), LONGEST_WAIT_S))
    return work()


def _wait_s(error: Exception) -> float:
    """Return the seconds a failure asks us to wait before the next attempt, or -1 if there should be none."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return -1
    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in RETRIED_STATUSES:
            return -1
        asked = error.response.headers.get("Retry-After", "")
        return float(asked) if asked.isdigit() else 0.0
    return 0.0 if isinstance(error, httpx2.TransportError) else -1


def _continues(response: Any, have: int) -> bool:
    """Tell whether an answer goes on at the byte that was asked for."""
    return response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
