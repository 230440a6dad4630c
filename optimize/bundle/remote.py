"""A bundle that lies on the Hub: downloaded once, and read from there like any folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from optimize.bundle.folder import MODEL_NAME, TOKENIZER_NAME, BundleError
from optimize.bundle.manifest import MANIFEST_NAME

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
FILES = (MANIFEST_NAME, MODEL_NAME, TOKENIZER_NAME)


def folder_of(bundle: str | os.PathLike[str], revision: str | None) -> Path:
    """The folder of a bundle: as it is, or where a download of ``OWNER/NAME`` lies.

    A repository is meant only where a revision is given: a folder that is not there must not become
    a download of a stranger's. Whether the files are those that the manifest was written for, their
    digests tell as for any folder. Pin ``revision`` to a commit: the owner of a repository can
    change what a branch holds.

    Args:
        bundle: a folder; or with a revision, a repository of the Hub.
        revision: branch, tag or commit of the repository.

    Raises:
        BundleError: there is neither; a revision of a folder was asked for.
    """
    folder = Path(bundle)
    if revision is None:
        return folder
    if folder.exists() or not REPOSITORY.fullmatch(os.fspath(bundle)):
        found = "a folder here" if folder.exists() else "no name of one"
        raise BundleError(f"{folder} is {found}; a revision is for a repository of the Hub")
    from huggingface_hub import snapshot_download

    name = os.fspath(bundle)
    try:
        place = snapshot_download(name, revision=revision, allow_patterns=list(FILES))
    except Exception as error:  # of the network, the Hub and the cache; they have no common base
        raise BundleError(
            f"no bundle {name!r} could be had from the Hub (revision {revision}): {error}"
        ) from error
    return Path(place)
