"""What a model does and says on held-out groups, and all numbers of that."""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np
import pyarrow as pa

from coupling.config import schema
from coupling.config import validate
from coupling.elicit import evaluation
from coupling.elicit import evaluator as evaluator_lib
from coupling.elicit import backend
from coupling.elicit import label_file
from coupling.elicit import models
from coupling.elicit import text_answers
from coupling.report import aggregate
from coupling.report import figures
from coupling.report import page
from coupling.report import provenance
from coupling.report import records as records_lib
from coupling.run import context
from coupling.run import api_label
from coupling.run import api_train
from coupling.run import served_model
from coupling.runtime import files
from coupling.runtime import manifests
from coupling.runtime import progress
from coupling.statistics.intervals import Interval
from data import pairs as pairs_lib

RUN = 'model'  # what the run is called in tables and figures


class Drawing(str):
  """An SVG element, which a notebook draws."""

  def _repr_svg_(self) -> str:
    return str(self)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result:
  """The evaluation of one model.

  Attributes:
    records: what was recorded, in the order of the items.
    summary: all numbers, as of aggregate.summarize: what a report's report.json has.
    items: a row an item: what it is about (records.QUESTION), evaluation.records, what
      M_0 did (`orig_behavior`, `orig_counterfactual_behavior`), whether the explanation
      is right (`self`, `orig`), and whether its kind of cue is one that training
      explains (`explained`): all but those of Questions.unexplained, which Self, Orig
      and the gap leave out.
  """

  records: records_lib.SeedRecords
  summary: dict[str, Any]
  items: pa.Table

  @property
  def gap(self) -> Interval:
    """Self - Orig."""
    return self._final('gap')

  @property
  def self_accuracy(self) -> Interval:
    """Share of items whose explanation agrees with E(M_t)."""
    return self._final('self_accuracy')

  @property
  def orig_accuracy(self) -> Interval:
    """Share of items whose explanation agrees with E(M_0)."""
    return self._final('orig_accuracy')

  @property
  def similarity(self) -> Interval:
    """Share of items on which the labels trained on agree with E(M_t)."""
    return self._final('behavior_similarity')

  @property
  def reliance(self) -> dict[str, Interval]:
    """Weights of the explanation on `self` and `orig`, and their `difference`: see
    reliance.reliance_weights. Undefined (None) where behaviour has not moved."""
    found = self.summary['runs'][RUN]['final']['reliance']
    return {name: _interval(x) for name, x in found.items()}

  @property
  def controls(self) -> dict[str, dict[str, Interval]]:
    """Explainers that were not trained -> statistic: see aggregate.summarize."""
    return {
      name: dict(_intervals(found)) for name, found in self.summary['baselines'].items()
    }

  def table(self) -> pa.Table:
    """Numbers of the model and of the controls: explainer, statistic, value, low, high.

    Statistics within others are named by dotted paths, as in report.json.
    """
    every = {RUN: dict(_intervals(self.summary['runs'][RUN]['final']))} | self.controls
    rows = [
      {'explainer': explainer, 'statistic': name} | interval._asdict()
      for explainer, found in every.items()
      for name, interval in found.items()
    ]
    return pa.Table.from_pylist(rows)

  def plot(self, name: str = 'accuracy') -> Drawing:
    """A figure of the report, by its name there: accuracy, weights, moved, ..."""
    found = figures.figures(self.summary)
    if name not in found:
      raise ValueError(f'plot: no figure {name!r}; choose from {[*found]}')
    return Drawing(found[name])

  def to_html(self, path: str | pathlib.Path) -> None:
    """Writes the report, one page that stands alone."""
    files.write_bytes(pathlib.Path(path), page.html(self.summary).encode())

  def save(self, path: str | pathlib.Path) -> None:
    """Writes the items as a .jsonl or .parquet file; DataError for another ending."""
    label_file.write(path, self.items)

  def _final(self, name: str) -> Interval:
    return _interval(self.summary['runs'][RUN]['final'][name])

  def __repr__(self) -> str:
    names = ('self_accuracy', 'orig_accuracy', 'gap', 'similarity')
    found = ', '.join(f'{name}={getattr(self, name)}' for name in names)
    return f'Result({self.summary["items"][0]} items, {found})'


def _interval(statistic: dict[str, Any]) -> Interval:
  found = (statistic[name] for name in ('mean', 'low', 'high'))
  return Interval(*(x if x is None else float(x) for x in found))


def _intervals(found: dict[str, Any], prefix: str = ''):
  """Name and interval of every statistic, those within others too."""
  for name, value in found.items():
    if 'per_seed' in value:
      yield prefix + name, _interval(value)
    else:
      yield from _intervals(value, f'{prefix}{name}.')


def evaluate(
  model: models.Model | backend.Backend,
  labels: api_label.Labels,
  config: schema.Evaluate | None = None,
) -> Result:
  """Asks a model what it does and how it explains that, on held-out groups.

  Where `train` made the model from these labels, M_0 is asked too, as a control. Of any
  other model this is an audit, as configs/audit.py makes it.

  Args:
    model: M_t; a backend is audited.
    labels: E(M_0), which Orig is counted against.
    config: the split, the batch size, and whether statements are scored.

  Raises:
    ConfigError: statements that cannot be told apart; a model of the same weights, or
      trained from them, that is asked by another template than the labels' own; a
      backend that does not answer, or not as the labels' behaviours were read.
    NonFiniteError: logits that are not finite.
  """
  model, config = served_model.asked(model), config or schema.Evaluate()
  did = model.training
  validate.section(schema.Evaluate, dataclasses.asdict(config), 'evaluate')
  schema.ConfigError.refuse(
    served_model.api_problems(model, labels.behavior, labels.config, labels.questions),
    served_model.likelihood_problems(model, config),
  )
  _check_asked_alike(model, labels.model)
  begun, started = time.monotonic(), manifests.provenance()['started']
  if did is None or did.labels != labels.digest:
    train = schema.Train(loop=schema.Loop(steps=0, checkpoint_every=1))
    seed, tables = 0, {}
  else:
    train, seed = did.config, did.seed
    tables = {0: _of_base(labels, train.context, config)}
  tables[train.loop.steps] = _asked(model, labels, train.context, config)
  e = _experiment(model, labels, train, seed, config)
  labelled = {split: labels.table(split) for split in ('train', config.split)}
  tables = {k: records_lib.joined(x, labelled[config.split]) for k, x in tables.items()}
  taught = {split: api_train.taught(train, labels, seed, split) for split in labelled}
  found = records_lib.assemble(
    e, labels.questions, {RUN: tables}, labelled, {RUN: taught}
  )
  seconds = round(time.monotonic() - begun, 3)
  stages = {'evaluate': dict(stage='evaluate', started=started, seconds=seconds)}
  stages['label'] = dict(stage='label', **{k: labels.made[k] for k in _TIMES})
  made = _provenance(labels, model, seed, stages)
  summary = aggregate.of_records(e, {seed: found}, made)
  if e.base is None:
    del summary['config']['base']  # no config would load this M_0
  items = _items(tables[train.loop.steps], labelled[config.split], labels.questions)
  return Result(found, summary, items)


def _items(
  table: pa.Table, before: pa.Table, questions: pairs_lib.Questions
) -> pa.Table:
  """Result.items, of what M_t did and what M_0 did on the same items."""
  items = records_lib.to_items(table, questions.states_answer, questions.against)
  orig = dataclasses.replace(
    items,
    behavior_N=before['behavior'].to_numpy(),
    counterfactual_behavior_N=before['counterfactual_behavior'].to_numpy(),
  )
  kind_N = np.array(table['cue_kind'].to_pylist(), object)
  for name, x_N in {
    'orig_behavior': orig.behavior_N,
    'orig_counterfactual_behavior': orig.counterfactual_behavior_N,
    'self': items.right(items.truth),
    'orig': items.right(orig.truth),
    'explained': ~np.isin(kind_N, questions.unexplained),
  }.items():
    table = table.append_column(name, pa.array(np.asarray(x_N)))
  return table


_TIMES = ('started', 'seconds')


def _check_asked_alike(
  model: models.Model | backend.Asked, before: models.Model | backend.Asked
) -> None:
  """Raises ConfigError where M_t is trained from M_0 but asked in other tokens."""
  if not isinstance(model, models.Model) or not isinstance(before, models.Model):
    return
  ours, theirs = model.format.fingerprint, before.format.fingerprint
  if ours == theirs:
    return
  found = (
    f'model: {model.origin["name"]} is asked by a chat template or tokenizer '
    f'({ours[:12]}) that is not that of {before.origin["name"]} ({theirs[:12]}), whose '
    'labels these are'
  )
  if (first := _first_weights(before)) and _first_weights(model) == first:
    raise schema.ConfigError(f'{found}: load both with the same chat= and system=')
  progress.line(f'{found}: another model, whose prompts are of its own')


def _first_weights(model: models.Model) -> str | None:
  """Digest of the weights that a model's trainings began with, where it is known."""
  origin = model.origin
  while 'base' in origin:
    origin = origin['base']
  return origin.get('weights')


def _of_base(labels: api_label.Labels, when: str, config: schema.Evaluate) -> pa.Table:
  """M_0 itself, `_asked` once for all that is trained from it."""
  if (when, config) not in labels.of_base:
    labels.of_base[when, config] = _asked(labels.model, labels, when, config)
  return labels.of_base[when, config]


def _asked(
  model: models.Model | backend.Asked,
  labels: api_label.Labels,
  when: str,
  config: schema.Evaluate,
) -> pa.Table:
  """A row an item of the held-out split; `when`: before the answer or after it."""
  pairs, orig = labels.pairs[config.split], labels.behaviors[config.split]
  if isinstance(model, backend.Asked):
    return text_answers.evaluate(
      model,
      pairs,
      labels.row[config.split],
      labels.questions,
      labels.how,
      labels.config.reply_tokens,
      orig.explanation,
      orig.explanation,  # of counts alone, which are not wanted
      config,
    )[0]
  evaluator = evaluator_lib.Evaluator(
    format=model.format,
    template=labels.questions,
    pairs=pairs,
    row_N=labels.row[config.split],
    asked=evaluation.questions(model.format, pairs, labels.questions, labels.how),
    orig=orig,
    target=orig.explanation,  # of counts alone, which are not wanted
    config=config,
    context=when,
    reply_tokens=labels.config.reply_tokens,
  )
  return evaluator.run(model.config, model.params, model.mesh)[0]


def _experiment(
  model: models.Model | backend.Asked,
  labels: api_label.Labels,
  train: schema.Train,
  seed: int,
  config: schema.Evaluate,
) -> schema.Experiment:
  """What a config would have said."""
  return schema.Experiment(
    seeds=(seed,),
    task=labels.task or schema.Task(module='', config=None),
    base=labels.model.section,
    length=labels.length,
    behavior=labels.behavior,
    label=labels.config,
    train=train,
    evaluate=config,
    patch=schema.Patch(),
    report=schema.Report(title=model.origin['name'], main=RUN),
    mesh=model.axes,
    runs={RUN: train},
  )


def _provenance(
  labels: api_label.Labels,
  model: models.Model | backend.Asked,
  seed: int,
  stages: dict[str, Any],
) -> dict[str, Any]:
  """As of provenance.provenance; `models`: whose labels, and who was evaluated."""
  versions = labels.made['packages'] | {'python': labels.made['python']}
  return {
    'stages': stages,
    'packages': {name: [version] for name, version in versions.items()},
    'devices': [context.devices()],
    'report_machine': provenance.machine(),
    'too_long': {str(seed): dict(labels.too_long)},
    'tokens': {},
    'models': {'label': labels.model.origin, 'evaluate': model.origin},
  }
