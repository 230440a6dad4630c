"""Which commit a Hub revision names: what a cached stage is keyed by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

COMMIT = re.compile(r"[0-9a-f]{40}")
# The Hub answers in less, or not at all.
TIMEOUT_S = 10.0


def commit_of(repository: str, revision: str | None, kind: Literal["model", "dataset"]) -> str:
    """The commit that a branch or tag names today.

    Asked of the Hub; without a network, of the files that an earlier download left. Where nobody
    knows, the revision's own name, which then cannot tell one commit from the next: pin it.

    Args:
        repository: ``OWNER/NAME``.
        revision: branch, tag or commit; ``None`` is ``main``.
        kind: of repository.
    """
    name = revision or "main"
    if COMMIT.fullmatch(name):
        return name
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    if not constants.HF_HUB_OFFLINE:
        try:
            found = HfApi().repo_info(repository, revision=name, repo_type=kind, timeout=TIMEOUT_S)
        except Exception:  # no network, no such repository: loading it will say which
            found = None
        if found is not None and found.sha:
            return str(found.sha)
    folder = repo_folder_name(repo_id=repository, repo_type=kind)
    reference = Path(constants.HF_HUB_CACHE, folder, "refs", name)
    return reference.read_text(encoding="ascii").strip() if reference.is_file() else name
