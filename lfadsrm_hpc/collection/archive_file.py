"""The file of an archive: a plain tar whose first member says what the others are, with checksums."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.errors import MismatchError, UsageError
from lfadsrm_hpc.layout import CollectionLayout

SCHEMA_VERSION = 1
_BLOCK = 1 << 20
_MODES = {".tar": "", ".tar.gz": "gz", ".tgz": "gz"}
_UNREADABLE = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, KeyError, TypeError)


class _Damage(Exception):
    """What is wrong with an archive."""


@dataclass(frozen=True)
class Packed:
    """One file of a collection: where it is in the archive, what it holds, and when it was last changed."""

    name: str
    size: int
    sha256: str
    changed: int = 0


@dataclass(frozen=True)
class Content:
    """What an archive says that it holds.

    Attributes
    ----------
    collection : str
        The folder that comes out of it.
    created : str
    runs : dict of str to str
        Run id to the state that it was in.
    files : tuple of Packed
    """

    collection: str
    created: str
    runs: Mapping[str, str]
    files: tuple[Packed, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def check_name_of(path: Path) -> str:
    """Return how a file of this name is compressed, as `tarfile` names it.

    Raises
    ------
    UsageError
        The name does not say.
    """
    for suffix, mode in _MODES.items():
        if path.name.endswith(suffix) and path.name != suffix:
            return mode
    raise UsageError(
        f"{path.name!r} does not say what kind of file it is to be", hint=f"end it in {', '.join(_MODES)}"
    )


def new_content(collection: str, runs: Mapping[str, str], files: Sequence[Packed]) -> Content:
    """Return what an archive that is made now says of itself."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Content(collection, created, runs, tuple(files))


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield a stream in blocks."""
    while block := stream.read(_BLOCK):
        yield block


def sha256(stream: IO[bytes], tell: Callable[[int], None]) -> tuple[str, int]:
    """Return the checksum and the number of bytes of a stream; `tell` hears of each block."""
    found, size = hashlib.sha256(), 0
    for block in blocks(stream):
        found.update(block)
        size += len(block)
        tell(len(block))
    return found.hexdigest(), size


def write(
    stream: IO[bytes],
    content: Content,
    sources: Mapping[str, Path | bytes],
    mode: str,
    tell: Callable[[int], None],
) -> None:
    """Write an archive.

    Parameters
    ----------
    stream : binary file
    content : Content
    sources : dict of str to path or bytes
        By name in the archive, the file or its bytes.
    mode : str
        See `check_name_of`.
    tell : callable
        Hears of each file's bytes.
    """
    more: dict[str, Any] = {"mode": f"w:{mode}", **({"compresslevel": 6} if mode else {})}
    with tarfile.open(fileobj=stream, format=tarfile.PAX_FORMAT, **more) as tar:
        _add_bytes(tar, f"{content.collection}/{_manifest_name()}", _to_json(content))
        for file in content.files:
            source = sources[file.name]
            name = f"{content.collection}/{file.name}"
            if isinstance(source, bytes):
                _add_bytes(tar, name, source)
            else:
                with source.open("rb") as opened:
                    tar.addfile(_about(tar.gettarinfo(arcname=name, fileobj=opened), file.size), opened)
            tell(file.size)


def _about(member: tarfile.TarInfo, size: int) -> tarfile.TarInfo:
    # A second name of the same file (a hard link) is a file of its own here; and it is not written at
    # another size than was measured: verifying says so if it has grown.
    member.type, member.linkname, member.size = tarfile.REGTYPE, "", size
    return member


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), int(time.time()), 0o644
    tar.addfile(member, io.BytesIO(data))


def check(path: Path, tell: Callable[[int], None]) -> Content:
    """Read an archive from its first to its last byte; return what it holds.

    Nothing is unpacked.

    Raises
    ------
    MismatchError
        It is damaged, no archive of a collection, or a file in it is not what the archive says.
    """
    try:
        with tarfile.open(path, "r:*") as tar:
            return _check(tar, tell)
    except FileNotFoundError:
        raise UsageError("there is no such file", where=path) from None
    except _Damage as error:
        raise MismatchError(str(error), where=path, hint="make the archive again") from None
    except _UNREADABLE as error:
        raise MismatchError(
            f"the archive cannot be read: {error}", where=path, hint="make the archive again"
        ) from None


def _check(tar: tarfile.TarFile, tell: Callable[[int], None]) -> Content:
    members = iter(tar)
    first = next(members, None)
    if first is None or not first.isreg() or first.name.split("/")[1:] != [_manifest_name()]:
        raise _Damage("the file is no archive of a run collection")
    content = _from_json(_opened(tar, first).read())
    files = {f"{content.collection}/{file.name}": file for file in content.files}
    for member in members:
        file = files.pop(member.name, None)
        if file is None or not member.isreg():
            raise _Damage(f"the archive holds {member.name!r}, which it does not speak of")
        if member.size != file.size or sha256(_opened(tar, member), tell) != (file.sha256, file.size):
            raise _Damage(f"{member.name!r} in the archive is not what was packed")
    if files:
        raise _Damage(f"the archive lacks {len(files)} files, as {next(iter(files))!r}")
    return content


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise _Damage(f"{member.name!r} in the archive is no file")
    return stream


def _manifest_name() -> str:
    return CollectionLayout(Path("any")).archive_manifest.name


def _to_json(content: Content) -> bytes:
    document = {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "collection": content.collection,
        "created": content.created,
        "runs": dict(content.runs),
        "files": [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in content.files],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _from_json(data: bytes) -> Content:
    document = json.loads(data)
    if document["schema_version"] != SCHEMA_VERSION:
        raise _Damage("the archive was made by another version of lfadsrm_hpc")
    files = tuple(Packed(str(f["name"]), int(f["size"]), str(f["sha256"])) for f in document["files"])
    return Content(str(document["collection"]), str(document["created"]), dict(document["runs"]), files)
