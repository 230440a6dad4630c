"""Runs the stages in order, each cached, and leaves a kit."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.build import checkpoint, data
from optimize.build.cache import StageCache, default_root, key_of, library_versions
from optimize.build.card import CARD_NAME, model_card
from optimize.records import (
    KIT_NAME,
    MANIFEST_NAME,
    FileEntry,
    KitManifest,
    Manifest,
    write_json,
)
from optimize.runtime import MODEL_NAME, TOKENIZER_NAME, read_manifest
from optimize.settings import Settings

Tell = Callable[[str], None]
TRAIN_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "safetensors")
EXPORT_LIBRARIES = (*TRAIN_LIBRARIES, "optimum", "optimum-onnx", "onnx", "onnxruntime")
TRAIN_MODULES = ("training.py", "checkpoint.py", "metrics.py")


def build(settings: Settings, tell: Tell, cache_root: Path | None = None) -> Path:
    """Build the kit that the settings describe, or find it in the cache.

    Args:
        settings: a whole recipe; its gates and judge tables do not touch the result.
        tell: told what is being done, a line at a time.
        cache_root: where stages are kept; by default the user's cache folder.

    Returns:
        The kit's folder. It belongs to the cache: copy it before changing it.
    """
    return _Build(settings, tell, StageCache(cache_root or default_root())).kit()


class _Build:
    """One run over the stages; every stage's method returns its folder."""

    def __init__(self, settings: Settings, tell: Tell, cache: StageCache) -> None:
        self.settings = settings
        self.tell = tell
        self.cache = cache
        splits = data.load(settings.data)
        teacher = settings.teacher
        if not teacher.fine_tune:
            names = checkpoint.label_names(teacher.checkpoint, teacher.revision)
            splits = splits.ordered_as(names, f"the teacher {teacher.checkpoint}")
        self.splits = splits
        self.keys: dict[str, str] = {}

    def _stage(
        self,
        name: str,
        parts: Mapping[str, Any],
        modules: Sequence[str],
        libraries: Sequence[str],
        make: Callable[[Path, Path], None],
    ) -> Path:
        self.keys[name] = key_of({"stage": name, **parts}, modules, libraries)

        def told(result: Path, work: Path) -> None:
            started = time.monotonic()
            self.tell(f"{name}: building")
            make(result, work)
            self.tell(f"{name}: built in {time.monotonic() - started:.0f} s")

        return self.cache.folder(name, self.keys[name], told)

    def teacher(self) -> Path:
        settings = self.settings.teacher
        parts = {
            "settings": settings.model_dump(exclude={"logits"}),
            "checkpoint": checkpoint.digest(settings.checkpoint, settings.revision),
            "data": self.splits.digest,
        }

        def make(result: Path, work: Path) -> None:
            from optimize.build.teacher import make_teacher

            model, tokenizer = make_teacher(settings, self.splits, work, self.tell)
            self._save_torch(model, tokenizer, result, {"teacher": parts["settings"]})

        return self._stage("teacher", parts, ("teacher.py", *TRAIN_MODULES), TRAIN_LIBRARIES, make)

    def logits(self) -> Path:
        source = self.settings.teacher.logits
        teacher = None if source else self.teacher()
        parts = {
            "teacher": FileEntry.of(Path(source)).sha256 if source else self.keys["teacher"],
            "data": self.splits.digest,
            "augment": [self.settings.distill.augment, self.settings.distill.seed],
        }

        def make(result: Path, work: Path) -> None:
            from optimize.build import logits
            from optimize.build.distill import transfer_set

            texts, _ = transfer_set(self.splits, self.settings.distill)
            if teacher is None:
                names = self.splits.label_names
                store = result / logits.STORE_NAME
                logits.import_precomputed(Path(str(source)), "train", len(texts), names, store)
                return
            model = checkpoint.load_classifier(str(teacher))
            tokenizer = checkpoint.load_tokenizer(str(teacher))
            length = self.settings.teacher.max_length
            logits.score(model, tokenizer, texts, result, length, self.tell)

        modules = ("logits.py", "augment.py", "student.py", "training.py", "checkpoint.py")
        return self._stage("teacher-logits", parts, modules, TRAIN_LIBRARIES, make)

    def student(self) -> Path:
        settings = self.settings
        teacher, store = self.teacher(), self.logits()
        own = settings.student.checkpoint != "teacher"
        parts = {
            "student": settings.student.model_dump(),
            "distill": settings.distill.model_dump(),
            "teacher": self.keys["teacher"],
            "logits": self.keys["teacher-logits"],
            "checkpoint": checkpoint.digest(settings.student.checkpoint, settings.student.revision)
            if own
            else None,
        }

        def make(result: Path, work: Path) -> None:
            from optimize.build.distill import distill
            from optimize.build.logits import read_targets
            from optimize.build.student import make_student, parameter_count

            seed = settings.distill.seed
            names = self.splits.label_names
            student = make_student(settings.student, str(teacher), names, seed)
            self.tell(f"student: {parameter_count(student[0]):,} parameters")
            length = settings.teacher.max_length
            targets = read_targets(store)
            distill(settings.distill, student, targets, self.splits, length, work, self.tell)
            own = {"student": parts["student"], "distill": parts["distill"]}
            self._save_torch(*student, result, read_manifest(teacher).recipe | own)

        modules = ("distill.py", "augment.py", "losses.py", "student.py", *TRAIN_MODULES)
        return self._stage("student", parts, modules, TRAIN_LIBRARIES, make)

    def exported(self, role: str, *, fuse: bool) -> Path:
        source = self.teacher() if role == "teacher" else self.student()
        export = self.settings.export.model_copy(update={"fuse": fuse})
        parts = {"settings": export.model_dump(), "model": self.keys[role]}

        def make(result: Path, work: Path) -> None:
            from optimize.build.export import check_parity, export_onnx, versions

            model = checkpoint.load_classifier(str(source))
            export_onnx(model, result / MODEL_NAME, export)
            shutil.copy(source / TOKENIZER_NAME, result)
            opset, ir_version = versions(result / MODEL_NAME)
            manifest = _derived(
                result,
                read_manifest(source),
                {"export": export.model_dump()},
                format="onnx",
                opset=opset,
                ir_version=ir_version,
            )
            texts = self.splits.validation.texts
            worst = check_parity(model, result, manifest, texts, export.parity_tolerance)
            self.tell(f"{role}: ONNX equals PyTorch within {worst:.1e}")
            write_json(manifest, result / MANIFEST_NAME)

        name = f"{role}-onnx" if fuse else f"{role}-onnx-plain"
        modules = ("export.py", "checkpoint.py")
        return self._stage(name, parts, modules, EXPORT_LIBRARIES, make)

    def quantized(self, recipe: str) -> Path:
        # The wrapper of `optimum-dynamic` cannot quantize a fused graph (quantization.md, trap 2).
        fuse = self.settings.export.fuse and recipe != "optimum-dynamic"
        source = self.exported("student", fuse=fuse)
        upstream = "student-onnx" if fuse else "student-onnx-plain"
        parts = {"recipe": recipe, "model": self.keys[upstream]}

        def make(result: Path, work: Path) -> None:
            from optimize.build.quantize import RECIPES, quantize

            (known,) = [name for name in RECIPES if name == recipe]
            quantize(known, source / MODEL_NAME, result / MODEL_NAME)
            shutil.copy(source / TOKENIZER_NAME, result)
            own = {"quantize": {"recipe": recipe}}
            manifest = _derived(result, read_manifest(source), own, quantization=recipe)
            write_json(manifest, result / MANIFEST_NAME)
            (result / CARD_NAME).write_text(model_card(manifest), encoding="utf-8")

        return self._stage(
            f"int8-{recipe}", parts, ("quantize.py", "card.py"), EXPORT_LIBRARIES, make
        )

    def kit(self) -> Path:
        quantize = self.settings.quantize
        variants = {
            "teacher-torch": self.teacher(),
            "teacher-onnx": self.exported("teacher", fuse=self.settings.export.fuse),
            "student-torch": self.student(),
            "student-onnx": self.exported("student", fuse=self.settings.export.fuse),
            "student-int8": self.quantized(quantize.recipe),
        }
        if quantize.compare != "none":
            variants["student-int8-compared"] = self.quantized(quantize.compare)
        settings = self.settings.model_dump(mode="json")
        parts = {
            "settings": settings,
            "data": self.splits.digest,
            "variants": {
                name: FileEntry.of(path / MANIFEST_NAME).sha256 for name, path in variants.items()
            },
        }

        def make(result: Path, work: Path) -> None:
            for name, folder in variants.items():
                # Hard links where the cache allows: a kit repeats no bytes.
                shutil.copytree(folder, result / name, copy_function=_link)
            files = _write_texts(self.splits, result)
            manifest = KitManifest(
                recipe=self.settings.name,
                settings=settings,
                labels=self.splits.label_names,
                variants={name: name for name in variants},
                manifests=parts["variants"],
                splits=files,
                files={path: FileEntry.of(result / path) for path in files.values()},
                inputs={"data": self.splits.digest},
                libraries=library_versions(EXPORT_LIBRARIES),
            )
            write_json(manifest, result / KIT_NAME)

        return self._stage("kit", parts, ("pipeline.py",), ("pydantic",), make)

    def _save_torch(self, model: Any, tokenizer: Any, folder: Path, recipe: dict[str, Any]) -> None:
        from optimize.build.student import parameter_count

        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        # Only what one ships counts as the model's size; the rest can be made from it.
        keep = {"config.json", "model.safetensors", TOKENIZER_NAME, "tokenizer_config.json"}
        for path in folder.iterdir():
            if path.name not in keep:
                path.unlink()
        compact = tokenizer.backend_tokenizer.to_str(pretty=False)
        (folder / TOKENIZER_NAME).write_text(compact, encoding="utf-8")
        manifest = Manifest(
            format="torch",
            labels=self.splits.label_names,
            max_length=self.settings.teacher.max_length,
            parameters=parameter_count(model),
            files=_entries(folder),
            inputs={"data": self.splits.digest},
            libraries=library_versions(TRAIN_LIBRARIES),
            recipe=recipe,
        )
        write_json(manifest, folder / MANIFEST_NAME)


def _derived(folder: Path, source: Manifest, own: dict[str, Any], **changes: Any) -> Manifest:
    """The manifest of a model made from another one by the settings ``own``."""
    fields = source.model_dump() | changes
    fields["inputs"] = source.inputs | {"model": _digest_of(source)}
    fields["libraries"] = library_versions(EXPORT_LIBRARIES)
    fields["files"] = _entries(folder)
    fields["recipe"] = source.recipe | own
    return Manifest.model_validate(fields)


def _digest_of(manifest: Manifest) -> str:
    """Digest of a model's weights file, as its manifest has it."""
    name = next(name for name in (MODEL_NAME, "model.safetensors") if name in manifest.files)
    return manifest.files[name].sha256


def _entries(folder: Path) -> dict[str, FileEntry]:
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST_NAME)
    return {path.name: FileEntry.of(path) for path in paths}


def _write_texts(splits: data.Splits, kit: Path) -> dict[str, str]:
    """The evaluation splits as JSON Lines; returns their paths in the kit."""
    (kit / "data").mkdir()
    paths = {}
    for name in ("validation", "test"):
        paths[name] = f"data/{name}.jsonl"
        with (kit / paths[name]).open("w", encoding="utf-8") as stream:
            for text, label in zip(splits[name].texts, splits[name].labels, strict=True):
                row = {"text": text, "label": splits.label_names[label]}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return paths


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
