"""Entries on the Hugging Face Hub, by names such as ``hf://OWNER/NAME@REVISION``.

A repository of the hub holds one entry: its files, its card also as README.md, and in
``shared/`` the large networks that it shares with others. Downloads go through
`huggingface_hub` and its cache, whose settings count: HF_HUB_OFFLINE, HF_HOME,
HF_ENDPOINT, HF_TOKEN. What comes from there is checked as every entry is.
"""

import contextlib
import glob
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any, TypeGuard

from kerashash.checks import check_flag, said
from kerashash.zoo import cards, remote
from kerashash.zoo.fetching import is_whole

_PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^\s@:\\]+))?", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")


def is_address(name: object) -> TypeGuard[str]:
    """Whether a name is that of a repository on the hub.

    Args:
        name: object, usually a str.

    Returns:
        bool.

    Example:
        >>> is_address("hf://me/dcdh-mine-48"), is_address("dcdh-cifar10-48")
        (True, False)
    """
    return isinstance(name, str) and name.startswith(_PREFIX)


def parse(address: str) -> tuple[str, str | None]:
    """Split the name of a repository on the hub.

    Args:
        address: str, ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.

    Returns:
        ``(repository, revision)``: str, "OWNER/NAME"; and str, a branch, a tag or a
        commit, or None.

    Raises:
        ValueError: if it is no such name.

    Example:
        >>> parse("hf://me/dcdh-mine-48@v2")
        ('me/dcdh-mine-48', 'v2')
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(
            "`name` must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION on the hub. "
            f"Received: {address!r}."
        )
    return match[1], match[2]


def find(address: str, strict: bool = False) -> pathlib.Path:
    """Download what is missing of an entry on the hub into the hub's cache.

    Nothing but the files that the card lists is downloaded. One that is not as the card
    describes it is downloaded again, once.

    Args:
        address: str, as for `parse`. Without a revision, that of "main".
        strict: bool; whether the hub must answer which commit a branch or a tag is. A
            commit in full is always the same, and may come from the cache.

    Returns:
        `pathlib.Path` of the folder, whose files may be links into `links`.

    Raises:
        ImportError: if `huggingface_hub` is not installed.
        ValueError: if there is no such repository or revision, or it holds no entry, or
            the cache does not say which commit a revision is.
        ConnectionError: if the hub does not answer, or is not to be asked, and the
            cache does not hold the entry, or not whole.
    """
    repository, revision = parse(address)
    hub = _package()
    with _errors(address):
        if strict and not _COMMIT.fullmatch(revision or ""):
            revision = hub.HfApi().repo_info(repository, revision=revision).sha
        card = pathlib.Path(
            hub.hf_hub_download(repository, "card.json", revision=revision)
        )
    try:
        files, shared = remote.listed_files(cards.read(card), card)
    except ValueError as error:
        _download_again(hub, address, card.parent, "card.json", said(error))
        files, shared = remote.listed_files(cards.read(card), card)
    expected = files | {f"shared/{file}": each for file, each in shared.items()}
    with _errors(address):
        folder = pathlib.Path(
            hub.snapshot_download(
                repository,
                revision=card.parent.name,  # the commit of this very card
                allow_patterns=["card.json", *map(glob.escape, expected)],
            )
        )
    for file, each in expected.items():
        if not is_whole(folder / file, **each, linked=True):
            why = f"{folder / file} is missing or not the file of its card"
            _download_again(hub, address, folder, file, why)
    return folder


def _download_again(
    hub: Any, address: str, folder: pathlib.Path, file: str, why: str
) -> None:
    """Replace a file of a snapshot in the hub's cache; `why` begins an error."""
    repository, _ = parse(address)
    path = folder / file
    try:
        with _errors(address):
            try:
                hub.hf_hub_download(
                    repository, file, revision=folder.name, force_download=True
                )
            except ValueError as error:  # which may name the reason as its cause alone
                raise (error.__cause__ or error) from None
            # Without links, the snapshot has a copy, which the hub leaves as it is.
            if path.is_file() and not path.is_symlink():
                path.unlink()
                hub.hf_hub_download(repository, file, revision=folder.name)
    except ConnectionError as error:
        raise ConnectionError(
            f"{why}. It is in the cache of the hub, and cannot be downloaded again: "
            f"{said(error)}. Load {address} again when the hub answers; or delete "
            f"{links(folder)}, which holds its cache."
        ) from error


def links(folder: pathlib.Path) -> pathlib.Path:
    """The folder that holds all that the files of a snapshot may link to.

    Args:
        folder: `pathlib.Path`, as `find` returns it: ``REPOSITORY/snapshots/COMMIT``.

    Returns:
        `pathlib.Path`, that of the repository in the cache.

    Example:
        >>> links(pathlib.Path("cache/models--me--a/snapshots/0123")).name
        'models--me--a'
    """
    return folder.parent.parent


def push(
    name: str | os.PathLike[str],
    repository: str,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Upload an entry to the Hugging Face Hub, with all that it needs to load there.

    The networks that it shares with others are uploaded too, also those that come with
    the package. The repository is made if it does not exist. Needs ``pip install
    "kerashash[hub]"``.

    Args:
        name: str, as for `kerashash.zoo.entry`.
        repository: str, "OWNER/NAME".
        private: bool; whether a new repository is private.
        token: str or None; a token of the hub with the right to write. None takes that
            of the environment variable HF_TOKEN, or of ``hf auth login``.

    Returns:
        str, ``hf://OWNER/NAME@COMMIT``, which `kerashash.zoo.load` takes.

    Raises:
        ImportError: if `huggingface_hub` is not installed.
        TypeError, ValueError, OSError, WeightsUnavailableError: as
            `kerashash.zoo.entry`; ValueError also if `repository` is wrong, or the hub
            refuses it.
        ConnectionError: if the hub does not answer.

    Example:
        >>> from kerashash import zoo
        >>> zoo.push("ssdh-digits-48", "no owner")
        Traceback (most recent call last):
        ValueError: `repository` must be OWNER/NAME. Received: 'no owner'.
    """
    from kerashash.zoo import writing

    check_flag(private=private)
    address = f"{_PREFIX}{repository}"
    if not isinstance(repository, str) or not _ADDRESS.fullmatch(address + "@main"):
        raise ValueError(f"`repository` must be OWNER/NAME. Received: {repository!r}.")
    hub = _package()
    with tempfile.TemporaryDirectory() as root:
        found = writing.stage_alone(name, pathlib.Path(root))
        folder = found.path
        card_md = (folder / "card.md").read_text("utf-8")
        load = f'Load: `kerashash.zoo.load("{address}")`.\n'
        (folder / "README.md").write_text(f"{card_md}\n{load}", "utf-8")
        api = hub.HfApi(token=token, library_name="kerashash")
        with _errors(address):
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"Upload {found.name}",
            )
    return f"{address}@{commit.oid}"


def _package() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            "Entries on the Hugging Face Hub need the package huggingface_hub. Install "
            'it by: pip install "kerashash[hub]".'
        ) from error
    return huggingface_hub


@contextlib.contextmanager
def _errors(address: str) -> Iterator[None]:
    """Raise the errors of the other registries in place of those of the hub."""
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalEntryNotFoundError as error:  # one of the next kind as well
        _check_revision(address)
        raise ConnectionError(
            f"{address} is not in the cache, and the hub does not answer: {error}"
        ) from error
    except (
        errors.RepositoryNotFoundError,  # a gated one, too
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
        errors.HFValidationError,
    ) as error:
        raise ValueError(
            f"`name` must be an entry that there is on the hub, and that you may read. "
            f"Received: {address!r}. {error}"
        ) from error
    except errors.HfHubHTTPError as error:
        if error.response is not None and error.response.status_code < 500:
            raise ValueError(f"The hub refuses {address!r}. {error}") from error
        raise ConnectionError(f"The hub does not answer: {error}") from error
    except OSError:
        raise
    except Exception as error:  # of the HTTP client, which differs between versions
        _check_revision(address)
        raise ConnectionError(
            f"The hub does not answer for {address}: {type(error).__name__}: {error}"
        ) from error


def _check_revision(address: str) -> None:
    """Raise an error if the hub's cache has no commit where it notes that of a branch.

    The hub's package raises whatever comes of that.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    repository, revision = parse(address)
    folder = repo_folder_name(repo_id=repository, repo_type="model")
    branch = revision or "main"
    path = pathlib.Path(constants.HF_HUB_CACHE, folder, "refs", branch)
    if ".." in branch.split("/") or not path.is_file():
        return
    with path.open("rb") as file:
        noted = file.read(50)
    if not _COMMIT.fullmatch(noted.decode("latin-1")):
        raise ValueError(
            f"{path}, in the cache of the hub, must hold a commit. "
            f"Received: {noted!r}. Delete the file, and load {address} again when "
            "the hub answers."
        )
