"""What lies in a project's folder and would run as its user is used only after that user has said so once.

Templates and site files end up as lines of a shell script. Those of the package, of the user's own settings
and of the folders in `LFADSRM_SITE_PATH` are the user's; those beside an experiment came with whoever wrote
that folder. What was trusted is on record by place and content, as the name of a small file in the user's
own settings: changed content has another name, and has to be trusted again. Nothing is locked or rewritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from pathlib import Path

from lfadsrm_hpc.errors import ConfigError, UntrustedError
from lfadsrm_hpc.layout import TrustLayout

TRUSTED_VARIABLE = "LFADSRM_TRUSTED"
COMMAND = "lfadsrm site trust"
PLAIN_SETTINGS = frozenset(
    {
        *("options.account", "options.qos", "options.filesystems"),
        *(f"request.{key}" for key in ("walltime", "partition", "memory", "cpus", "gpus", "gpu_type")),
        *("stopping.signal", "stopping.warning", "stopping.requeue"),
        *("retry.max_attempts", "retry.max_infrastructure_attempts"),
        *("escalation.memory_factor", "escalation.walltime_factor"),
        *("limits.largest_array_index", "limits.array_tasks", "limits.jobs", "limits.submissions_per_minute"),
        *("packing.runs", "packing.slots", "client.timeout_s", "filesystem.latency_s"),
    }
)
"""Keys of a site that hold a number, a time or one word, and never a command: they need no trust."""


def user_folder() -> Path:
    """Return the folder of the user's own settings, `$XDG_CONFIG_HOME/lfadsrm` or `~/.config/lfadsrm`."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    home = os.environ.get("HOME", "")
    # A relative XDG_CONFIG_HOME has no meaning, says its specification.
    return (Path(given) if given.startswith("/") else Path(home or "/") / ".config") / "lfadsrm"


def file_key(path: Path) -> str:
    """Return the place by which a file is remembered: where it really lies."""
    return os.path.realpath(path)


def is_own(path: Path) -> bool:
    """Return whether a file is the user's own, or lies where LFADSRM_TRUSTED says that everything is."""
    if Path(os.path.abspath(path)).is_relative_to(user_folder()):  # noqa: PTH100 - a link there is theirs too
        return True
    real = Path(file_key(path))
    own = [str(user_folder()), *os.environ.get(TRUSTED_VARIABLE, "").split(os.pathsep)]
    # A folder that is not absolute would mean another one wherever the command is called.
    return any(real.is_relative_to(file_key(Path(folder))) for folder in own if folder.startswith("/"))


def is_trusted(key: str, content: bytes) -> bool:
    """Return whether the user has trusted this content at this place."""
    return _record(key, content).exists()


def require_file(path: Path, content: bytes, what: str) -> None:
    """Refuse a file whose content was not trusted.

    Parameters
    ----------
    path : Path
    content : bytes
        As it was read: what is judged must be what is used.
    what : str
        What it is, with an article.

    Raises
    ------
    UntrustedError
    """
    if not is_own(path) and not is_trusted(file_key(path), content):
        raise UntrustedError(
            f"{what} of a project can run commands as you, and you have not trusted this one",
            where=path,
            hint=trusting(path),
            place=path,
        )


def may_run_commands(setting: str) -> bool:
    """Return whether a `KEY=VALUE` over a site could put commands into a script.

    What is not known to be plain could: a key that is written in another way (quoted, say) is not known.
    """
    return setting.partition("=")[0].strip() not in PLAIN_SETTINGS


def trusting(path: Path) -> str:
    """Return what a user does about a file that is not trusted yet."""
    return f"read it, then: {COMMAND} {shlex.quote(os.fspath(path))}"


def remember(key: str, content: bytes, what: str) -> bool:
    """Put on record that the user trusts this content at this place; return whether that is new.

    Raises
    ------
    ConfigError
        The record cannot be written.
    """
    from lfadsrm_hpc.beside import appearing

    record = _record(key, content)
    if record.exists():
        return False
    try:
        record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with appearing(record) as beside:
            # For people: the name alone counts.
            beside.write_bytes(f"{what}\n{key}\n".encode(errors="surrogateescape"))
            beside.chmod(0o600)
    except OSError as error:
        raise ConfigError(
            f"that this is trusted cannot be put on record: {error.strerror}",
            where=record.parent,
            hint=f"{TRUSTED_VARIABLE}=FOLDER trusts all that lies in a folder, without a record",
        ) from None
    return True


def forget(key: str, content: bytes) -> bool:
    """Take a record back; return whether there was one."""
    with contextlib.suppress(FileNotFoundError):
        _record(key, content).unlink()
        return True
    return False


def _record(key: str, content: bytes) -> Path:
    place = key.encode(errors="surrogateescape")
    name = hashlib.sha256(hashlib.sha256(place).digest() + content).hexdigest()
    return TrustLayout(user_folder()).record(name)
