"""A stage of the build: a value that says what is made, of what, and by which function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optimize.pipeline.key import CODE, Code, Json, key_of, parts_of


@dataclass(frozen=True, eq=False)
class Stage:
    """One step from data to kit.

    Its function is called as ``make(result, run, **values, **inputs)``: an empty folder to fill, a
    :class:`optimize.training.run.Run`, the values, and the inputs' folders by role. So nothing
    reaches it that is not in the key.

    Attributes:
        name: of the result, for people who look into the cache.
        make: ``MODULE:FUNCTION``, a function of the module itself. It is imported only when the
            stage is made: PyTorch and transformers take seconds.
        values: resolved settings, data, checkpoints; what :func:`optimize.pipeline.key.encoded`
            takes.
        inputs: the stages whose results it reads, by role.
        together: all processes make it; otherwise the first does, and the others wait.
    """

    name: str
    make: str
    values: Mapping[str, object]
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    together: bool = False

    @cached_property
    def key(self) -> str:
        """Digest of all that the result depends on."""
        return key_of(self.name, self.parts)

    @cached_property
    def parts(self) -> dict[str, Json]:
        """What the key is made of."""
        inputs = {role: stage.key for role, stage in self.inputs.items()}
        return parts_of(self.make, self.values, inputs)

    def key_with(self, code: Code, known: dict[str, str] | None = None) -> str:
        """The key that the stage would have with other code.

        Args:
            code: the modules.
            known: keys of stages that were asked for with this code before, by name; filled.
        """
        known = {} if known is None else known
        if self.name not in known:
            inputs = {role: each.key_with(code, known) for role, each in self.inputs.items()}
            parts = self.parts if code is CODE else parts_of(self.make, self.values, inputs, code)
            known[self.name] = key_of(self.name, parts)
        return known[self.name]

    def function(self) -> Callable[..., None]:
        """The function that makes it."""
        module, _, name = self.make.partition(":")
        made: Any = getattr(importlib.import_module(module), name)
        return made  # type: ignore[no-any-return]

    def walk(self) -> Iterator[Stage]:
        """This stage and all that it is made of, inputs first, each once."""
        seen: set[int] = set()

        def visit(stage: Stage) -> Iterator[Stage]:
            if id(stage) in seen:
                return
            seen.add(id(stage))
            for each in stage.inputs.values():
                yield from visit(each)
            yield stage

        return visit(self)
