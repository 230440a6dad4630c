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

    Whether the files are those that the manifest was written for, their digests tell as for any
    folder. Pin ``revision`` to a commit: the owner of a repository can change what a branch holds.

    Args:
        bundle: a folder, or a repository of the Hub where there is no such folder.
        revision: branch, tag or commit of the repository.

    Raises:
        BundleError: there is neither; a revision of a folder was asked for.
    """
    folder = Path(bundle)
    if folder.exists() or not REPOSITORY.fullmatch(os.fspath(bundle)):
        if revision is not None:
            raise BundleError(
                f"{folder} is a folder here; a revision is for a repository of the Hub"
            )
        return folder
    from huggingface_hub import snapshot_download

    name = os.fspath(bundle)
    try:
        found = snapshot_download(name, revision=revision, allow_patterns=list(FILES))
    except Exception as error:  # of the network, the Hub and the cache; they have no common base
        raise BundleError(
            f"there is no folder {name!r}, and no such bundle could be had from the Hub (revision "
            f"{revision or 'main'}): {error}"
        ) from error
    return Path(found)
