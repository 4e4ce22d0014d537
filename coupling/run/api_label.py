"""Labels: what M_0 does on pairs with and without their cue, asked once."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import hashlib
import pathlib
import time
from typing import Any

import numpy as np
import pyarrow as pa

from coupling.config import schema
from coupling.config import validate
from coupling.elicit import backend
from coupling.elicit import fitting
from coupling.elicit import label_file
from coupling.elicit import label_set
from coupling.elicit import models
from coupling.elicit import options
from coupling.elicit.explanation import Behaviors
from coupling.run import labelling
from coupling.run import asking_rules
from coupling.run import served_model
from coupling.runtime import manifests
from coupling.runtime import progress
from data import builder
from data import formats
from data import loader
from data import pairs as pairs_lib
from data import reply_options

Pairs = Sequence[pairs_lib.Pair]
# Options by their whole texts, which small models can be asked for, as configs/facts.py
# has it.
TEXT = schema.Behavior(read='text', per_token=True)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Labels:
  """B(M_0), and so E(M_0), on the pairs of every split.

  Attributes:
    model: M_0.
    questions: how it was asked.
    task: the module that made the pairs; None where they were given.
    behavior: how a choice is read.
    how: the same, with the prior that is taken away, if any.
    config: of the labels.
    length: of prompts.
    pairs: split -> those that are labelled.
    row: split -> their places among all pairs of the split, int [N].
    behaviors: split -> what M_0 does on them.
    too_long: split -> how many were left out as too long.
    made: when, how long it took, and with which packages, as JSON.
    of_base: M_0's own evaluation, kept by `evaluate` for all that is trained.
  """

  model: models.Model | backend.Asked
  questions: pairs_lib.Questions
  task: schema.Task | None
  behavior: schema.Behavior
  how: options.How
  config: schema.Label
  length: schema.Length
  pairs: Mapping[str, list[pairs_lib.Pair]]
  row: Mapping[str, np.ndarray]
  behaviors: Mapping[str, Behaviors]
  too_long: Mapping[str, int]
  made: Mapping[str, Any]
  of_base: dict[Any, pa.Table] = dataclasses.field(default_factory=dict, init=False)

  def save(self, path: str | pathlib.Path) -> None:
    """Writes them as one .jsonl or .parquet file, which `read_labels` reads.

    Columns as of label_file.table; DataError for another ending.
    """
    found = {
      split: label_file.Labelled(pairs, self.row[split], self.behaviors[split])
      for split, pairs in self.pairs.items()
    }
    label_file.write(path, label_file.table(found, self.questions, self.behavior))

  def save_sft(self, path: str | pathlib.Path) -> None:
    """Writes those of the training split as `trl.SFTTrainer` takes them.

    A row an explanation: `prompt` and `completion`, lists of messages, worded as this
    model is asked, with the system turn that it is given here, if any. The template is
    the trainer's: one that writes the date has today's, here that of base.date.
    DataError for another ending than .jsonl and .parquet; ConfigError for a model
    without a chat template.
    """
    system = None
    if isinstance(self.model, models.Model):
      if not isinstance(self.model.format, formats.Chat):
        raise schema.ConfigError(
          f'save_sft: {self.model.origin["name"]} is asked without a chat template, so '
          'that there are no messages; write its texts from Labels.save'
        )
      system = self.model.format.system
    elif isinstance(self.model.section, schema.Served):
      system = self.model.section.system
    pairs, did = self.pairs['train'], self.behaviors['train']
    found = label_file.for_sft(self.questions, pairs, did.explanation, system)
    label_file.write(path, found)

  def table(self, split: str) -> pa.Table:
    """One row a pair, as the label stage writes it: see label_set.table."""
    return label_set.table(self.pairs[split], self.row[split], self.behaviors[split])

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of pairs, behaviours and distributions, and of how they were asked."""
    asked = dataclasses.replace(self.questions, detect=None)
    hashed = hashlib.sha256(repr((self.model.origin, self.how, asked)).encode())
    for split, found in self.behaviors.items():
      hashed.update(f'{split} {pairs_lib.digest(self.pairs[split])}'.encode())
      for x in (
        found.behavior_N,
        found.counterfactual_behavior_N,
        found.logprobs_Nx2xS,
      ):
        hashed.update(np.ascontiguousarray(x).tobytes())
      hashed.update(repr(found.replies_Nx2.tolist()).encode())
    return hashed.hexdigest()

  @property
  def provenance(self) -> dict[str, Any]:
    """Whose labels these are, how many, and how they were made, as JSON."""
    count = {split: len(pairs) for split, pairs in self.pairs.items()}
    return {
      'model': self.model.origin,
      'labels': self.digest,
      'behavior': dataclasses.asdict(self.behavior),
      'pairs': count,
      'too_long': dict(self.too_long),
      **self.made,
    }

  def __repr__(self) -> str:
    changed = {
      split: f'{found.explanation.changed_N.mean():.1%} of {len(found.behavior_N)}'
      for split, found in self.behaviors.items()
    }
    return f'Labels(of={self.model}, changed={changed})'


def label(
  model: models.Model | backend.Backend,
  pairs: Pairs,
  questions: pairs_lib.Questions | None = None,
  *,
  behavior: schema.Behavior | None = None,
  config: schema.Label | None = None,
  length: schema.Length | None = None,
) -> Labels:
  """Asks a model what it does with and without the cue: B(M_0), and so E(M_0).

  Args:
    model: M_0; or a backend, none of whose prompts are left out as too long.
    pairs: of a task of `coupling.tasks`, or given; split by group (data/splits.py).
    questions: how to ask; default: as the task does, or pairs.Questions().
    behavior: how a choice is read; default: TEXT, where replies are not read; of a
      backend served_model.behavior.
    config: batch size, and what is kept.
    length: of prompts.

  Raises:
    DataError: a pair that is none, or too few of them.
    ConfigError: questions, or options, that cannot be told apart; labels that hardly
      vary (config.stop_if_constant); prompts that are all too long; a backend that
      does not answer, or not as behaviours are read.
  """
  model = served_model.asked(model)
  template = questions or getattr(pairs, 'questions', pairs_lib.Questions())
  behavior = behavior or customary(model, pairs, template)
  template, config, length = settings(model, template, behavior, config, length)
  begun, started = time.monotonic(), manifests.provenance()
  task = getattr(pairs, 'task', None)
  check = builder.check if task else builder.check_asked
  every = {
    split: reply_options.with_unnamed(template, found)
    for split, found in builder.split(pairs, check).items()
  }
  row = {
    split: fitting_rows(model, template, behavior, config, length, split, found)
    for split, found in every.items()
  }
  kept = {split: [every[split][i] for i in row_N] for split, row_N in row.items()}
  choice = how(model, template, behavior, config, kept['train'])
  asks = labelling.asking(model, template, config, choice, config.reference)
  found = _behaviors(asks, config, kept, row)
  return Labels(
    model=model,
    questions=template,
    task=task,
    behavior=behavior,
    how=choice,
    config=config,
    length=length,
    pairs=kept,
    row=row,
    behaviors=found,
    too_long={split: len(every[split]) - len(x) for split, x in kept.items()},
    made=started | {'seconds': round(time.monotonic() - begun, 3)},
  )


def settings(
  model: models.Model | backend.Asked,
  template: pairs_lib.Questions,
  behavior: schema.Behavior,
  config: schema.Label | None,
  length: schema.Length | None,
) -> tuple[pairs_lib.Questions, schema.Label, schema.Length]:
  """How to ask, with what is not given, checked."""
  config, length = config or schema.Label(), length or schema.Length()
  if behavior.read == 'reply':
    template = reply_options.questions(template)
  for name, one in dict(behavior=behavior, label=config, length=length).items():
    validate.section(type(one), dataclasses.asdict(one), name)
  schema.ConfigError.refuse(
    ['label.source: is for configs (main.py) alone'] if config.source else [],
    asking_rules.template_problems('questions', template),
    asking_rules.reading_problems(behavior, config, {}, template),
    served_model.api_problems(model, behavior, config, template),
    asking_rules.position_problems(length, model.config)
    if isinstance(model, models.Model)
    else [],
  )
  return template, config, length


def customary(
  model: models.Model | backend.Asked, pairs: Pairs, template: pairs_lib.Questions
) -> schema.Behavior:
  """How a choice is read where nothing is said."""
  if template.detect:
    return schema.Behavior()
  if isinstance(model, backend.Asked):
    return served_model.behavior(model, pairs)
  return TEXT


def how(
  model: models.Model | backend.Asked,
  template: pairs_lib.Questions,
  behavior: schema.Behavior,
  config: schema.Label,
  train: Pairs,
) -> options.How:
  """How a choice is read, with the prior of M_0 where that is taken away."""
  choice = options.How.of(behavior)
  if behavior.calibration != 'prior':
    return choice
  asks = labelling.asking(model, template, config, choice, 'options')
  return options.How.of(behavior, labelling.prior(asks, train))


def fitting_rows(
  model: models.Model | backend.Asked,
  template: pairs_lib.Questions,
  behavior: schema.Behavior,
  config: schema.Label,
  length: schema.Length,
  split: str,
  found: Pairs,
) -> np.ndarray:
  """Indices of the pairs that are not too long, however they are asked."""
  if isinstance(model, backend.Asked):
    return np.arange(len(found))
  after, reply = bool(template.explanation_after), config.reply_tokens
  length_N = fitting.lengths(model.format, template, found, behavior.read, reply, after)
  return fitting.kept(length_N, length, f'split {split}')


def _behaviors(
  asks: labelling.Labeller,
  config: schema.Label,
  kept: Mapping[str, Pairs],
  row: Mapping[str, np.ndarray],
) -> dict[str, Behaviors]:
  """Split -> behaviours; raises ConfigError at the first that hardly vary."""
  bar = progress.Progress('label', sum(map(len, kept.values())), 'pairs')
  found, done = {}, 0
  for split, these in kept.items():
    arrays, compute = asks(split, these, row[split])
    parts = []
    for first, end in labelling.shards(len(these), config.shard):
      parts.append(compute(loader.take(arrays, np.arange(first, end))))
      if (split, first) == ('train', 0):
        labelling.check_varied(config, parts[0], enough=1)
      done += end - first
      bar.update(done)
    found[split] = _joined(parts)
  return found


def _joined(parts: Sequence[Behaviors]) -> Behaviors:
  names = [field.name for field in dataclasses.fields(Behaviors)]
  return Behaviors(*(np.concatenate([getattr(x, n) for x in parts]) for n in names))
