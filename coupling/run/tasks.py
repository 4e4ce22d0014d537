"""The tasks of data/ as lists of pairs, which know how they ask.

Each function takes a seed and the fields of its module's Config.
"""

from collections.abc import Sequence
import dataclasses
import functools
from types import ModuleType
from typing import Any

from coupling.config import schema
from data import aita as aita_lib
from data import facts as facts_lib
from data import hint_mmlu as hint_mmlu_lib
from data import jabberwocky as jabberwocky_lib
from data import pairs as pairs_lib
from data import published_hints as published_hints_lib
from data import refusal as refusal_lib


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Pairs(Sequence):
  """The pairs of a task.

  Attributes:
    pairs: in their order.
    questions: how the task asks.
    task: the module that made them, and its Config.
  """

  pairs: tuple[pairs_lib.Pair, ...]
  questions: pairs_lib.Questions
  task: schema.Task

  def __len__(self) -> int:
    return len(self.pairs)

  def __getitem__(self, i):
    if isinstance(i, slice):
      return dataclasses.replace(self, pairs=self.pairs[i])
    return self.pairs[i]

  def __repr__(self) -> str:
    return f'Pairs({self.task}, {len(self)} pairs)'


def _make(module: ModuleType, seed: int = 0, **fields: Any) -> Pairs:
  """The pairs of a task.

  Args:
    module: of the task.
    seed: of what is drawn at random.
    **fields: of its Config; see there, as for errors.
  """
  config = module.Config(**fields)
  task = schema.Task(module=module.__name__, config=config)
  return Pairs(tuple(module.make(config, seed)), module.questions(config), task)


facts = functools.partial(_make, facts_lib)
hint_mmlu = functools.partial(_make, hint_mmlu_lib)
aita = functools.partial(_make, aita_lib)
refusal = functools.partial(_make, refusal_lib)
jabberwocky = functools.partial(_make, jabberwocky_lib)
published_hints = functools.partial(_make, published_hints_lib)
