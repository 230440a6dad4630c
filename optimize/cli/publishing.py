"""The command that puts a bundle on the Hub."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optimize.bundle.manifest import Manifest
    from optimize.judge.records import Report


def push(arguments: argparse.Namespace) -> int:
    """Show what would be uploaded; with ``--yes`` upload it."""
    from optimize.bundle.classifier import Classifier

    _check_name(arguments.repository)
    bundle: Path = arguments.bundle
    manifest = Classifier(bundle, threads=1).manifest  # that it loads is part of what is checked
    with TemporaryDirectory(prefix="optimize-push-") as work:
        staged = Path(work)
        for name in (*manifest.files, "manifest.json"):
            shutil.copy(bundle / name, staged / name)
        _write_words(staged, manifest, arguments)
        files = sorted(staged.iterdir())
        for path in files:
            print(f"{path.stat().st_size / 1e6:10,.3f} MB  {path.name}")
        if gone := _gone(staged):
            print(f"removed there, if an earlier push left it: {', '.join(gone)}")
        if not arguments.yes:
            print(f"nothing was uploaded; `--yes` uploads these to {arguments.repository}")
            return 0
        _upload(staged, arguments)
    return 0


def _check_name(repository: str) -> None:
    """Refuse at once what the Hub would refuse after an upload.

    Raises:
        ValueError: no such name can be.
    """
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    validate_repo_id(repository)
    if repository.count("/") != 1:
        raise ValueError(f"{repository!r} is no name of a repository; give OWNER/NAME")


def _write_words(staged: Path, manifest: Manifest, arguments: argparse.Namespace) -> None:
    """The card, and the report's page where there is a report of this very bundle."""
    from optimize.bundle.folder import PAGE_NAME
    from optimize.bundle.manifest import MANIFEST_NAME, FileEntry
    from optimize.judge.reports.card import hub_card
    from optimize.judge.reports.page import html

    report = variant = None
    if arguments.report is not None:
        whole = FileEntry.of(staged / MANIFEST_NAME).sha256
        report, variant = _report_of(arguments.report, manifest, whole)
        (staged / PAGE_NAME).write_text(html(report), encoding="utf-8")
    card = hub_card(manifest, arguments.repository, report, variant or "")
    (staged / "README.md").write_text(card, encoding="utf-8")


def _report_of(path: Path, manifest: Manifest, whole: str) -> tuple[Report, str]:
    from optimize.judge.stored import read_vouched

    report = read_vouched(path)
    digest = manifest.files["model.onnx"].sha256
    for name, facts in report.variants.items():
        # One model with another bias or tokenizer answers otherwise; older reports do not tell.
        if facts.model_sha256 == digest and facts.manifest_sha256 in (whole, None):
            return report, name
    raise ValueError(
        f"{path} did not judge this bundle: no variant of it has the model {digest[:10]}… with "
        "this manifest; judge it: `optimize run`, and give that report"
    )


def _gone(staged: Path) -> list[str]:
    """What an earlier push may have left, and which would be told of this bundle too."""
    from optimize.bundle.folder import PAGE_NAME

    return [] if (staged / PAGE_NAME).exists() else [PAGE_NAME]


def _upload(staged: Path, arguments: argparse.Namespace) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    # Unasked, an organisation's own default stands.
    api.create_repo(arguments.repository, exist_ok=True, private=arguments.private or None)
    if arguments.private and not api.repo_info(arguments.repository).private:
        raise ValueError(
            f"{arguments.repository} is there already and public, and --private was asked for: "
            "nothing is uploaded. Make it private in its settings, or leave --private out"
        )
    commit = api.upload_folder(
        repo_id=arguments.repository,
        folder_path=staged,
        commit_message="optimize push",
        delete_patterns=_gone(staged) or None,
    )
    print(f'uploaded: Classifier("{arguments.repository}", revision="{commit.oid}") reads it back')
