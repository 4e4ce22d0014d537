"""What runs want of themselves, of one another and of other sections.

Told by the config alone; see validate.RULES.
"""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

from coupling.config import borrowed_labels
from coupling.config import close_names
from coupling.config import schema

Runs = dict[str, schema.Train]
# Role in a report -> how its run differs from the main one.
_ROLES = {
  'unregularised': 'without behavior_kl',
  'sibling': 'with another seed',
  'shuffled': 'with shuffle_labels',
}


def names(names: Sequence[str], part: bool) -> Iterator[str]:
  """None; names that cannot be those of folders."""
  if not names and not part:
    yield 'runs={}: name at least one run'
  yield from close_names.problems('runs', names)


def training(runs: Runs) -> Iterator[str]:
  """Lengths that do not divide, losses without a term, mixtures of one set."""
  for name, train in runs.items():
    yield from loop_problems(f'runs.{name}', train)
    yield from objective_problems(f'runs.{name}', train)
    yield from _mixture_problems(f'runs.{name}', train)
    yield from close_names.pattern_problems(f'runs.{name}.labels', train.labels)


def precision(runs: Runs, base: schema.Base) -> Iterator[str]:
  """Weights or arithmetic of a precision that training cannot have."""
  for name, train in runs.items():
    yield from precision_problems(f'runs.{name}', train, base)


def loop_problems(
  section: str, config: schema.Pretrain | schema.Train
) -> Iterator[str]:
  """Lengths that do not fit one another, where anything is trained."""
  path, loop, warmup = f'{section}.loop', config.loop, config.optimizer.warmup_steps
  if not loop.steps:
    return
  for field in ('steps', 'checkpoint_every'):
    if getattr(loop, field) % loop.steps_per_dispatch:
      yield (
        f'{path}.{field}={getattr(loop, field)} is not a multiple of '
        f'{path}.steps_per_dispatch={loop.steps_per_dispatch}: checkpoints fall '
        'between dispatches'
      )
  if warmup >= loop.steps:
    yield (
      f'{section}.optimizer.warmup_steps={warmup} must be less than '
      f'{path}.steps={loop.steps}'
    )


def objective_problems(section: str, train: schema.Train) -> Iterator[str]:
  """Losses without a term; a reference that is not there; two shifts at once."""
  terms, kl, dpo = train.objectives, train.objectives.behavior_kl, train.objectives.dpo
  if not train.loop.steps:
    return
  if not any(getattr(terms, f.name).weight for f in dataclasses.fields(terms)):
    yield f'{section}.objectives: every weight is 0; nothing would be trained'
  if kl.weight and kl.reference == 'adapters_off' and not train.lora.rank:
    yield (
      f'{section}.objectives.behavior_kl.reference=adapters_off: without adapters '
      '(train.lora.rank=0) M_0 is not kept; use labels'
    )
  if terms.shift_term == 'dpo' and terms.behavior_xent.weight:
    yield (
      f'{section}.objectives: dpo and behavior_xent both shift the behaviour on pairs; '
      "set one's weight to 0, or give dpo.file"
    )
  if dpo.file:
    yield from close_names.path_problems(f'{section}.objectives.dpo.file', dpo.file)
    unread = [f.name for f in dataclasses.fields(schema.Shift) if f.name != 'weight']
    if said := [x for x in unread if getattr(dpo, x) != getattr(schema.DPO, x)]:
      yield (
        f'{section}.objectives.dpo.file={dpo.file!r} says what is preferred, and '
        f'{", ".join(said)} of dpo are for preferences made of pairs; leave them out'
      )


def _mixture_problems(section: str, train: schema.Train) -> Iterator[str]:
  """Mixtures of one set, and answers in the context that the labels do not go with."""
  if train.mixture < 1 and not train.labels:
    yield (
      f'{section}.mixture={train.mixture}, but {section}.labels is empty: all labels '
      "are M_0's own; name the other set, or leave the mixture at 1.0"
    )
  if train.labels and train.context == 'after':
    yield (
      f"{section}.context=after puts M_0's answers into the context, but "
      f'{section}.labels={train.labels!r} are of another model; ask before'
    )


def precision_problems(section: str, train: schema.Train, base: Any) -> Iterator[str]:
  """Weights too coarse to be trained, or arithmetic that fused attention lacks."""
  if train.attention == 'cudnn' and getattr(base, 'dtype', '') != 'bfloat16':
    yield (
      f'{section}.attention=cudnn computes in bfloat16: set base.dtype to it, or '
      'attention to blocks'
    )
  trained = train.loop.steps and not train.lora.rank
  if trained and getattr(base, 'param_dtype', '') == 'bfloat16':
    yield (
      f'{section}.lora.rank=0 trains all weights, but base.param_dtype=bfloat16 is too '
      "coarse for AdamW's steps, which would round away: set it to float32"
    )


def starts(runs: Runs, names: Sequence[str]) -> Iterator[str]:
  """Runs that wait for none, for themselves, or start from other kinds of weights."""
  for name, train in runs.items():
    for field, first in (
      ('start', train.start),
      ('labels', borrowed_labels.other_run(train.labels)),
    ):
      where = f'runs.{name}.{field}={getattr(train, field)!r}'
      if first and (first not in names or name in _waited(runs, first)):
        yield (
          f'{where}: name another run, of {sorted(names)}, that does not wait for this '
          'one in turn'
        )
      elif first in runs and not runs[first].loop.steps:
        yield f'{where}: that run has no steps and is M_0; leave {field} empty'
      elif field == 'start' and first in runs and runs[first].lora != train.lora:
        yield (
          f'runs.{name}.lora differs from that of runs.{first}, where it starts: the '
          'same weights must be trained in both'
        )


def _waited(runs: Runs, first: str) -> set[str]:
  """A run, and all that it waits for."""
  found, more = set(), {first}
  while more:
    found |= more
    more = set().union(*(borrowed_labels.needs(runs[x]) for x in more if x in runs))
    more -= found
  return found


def earlier_labels(runs: Runs, base: schema.Base) -> Iterator[str]:
  """Labels of a step of M_0's pretraining that is not kept."""
  kept = []
  if isinstance(base, schema.Pretrain):
    kept = [*range(0, base.loop.steps, base.loop.checkpoint_every), base.loop.steps]
  for name, train in runs.items():
    step = borrowed_labels.earlier_step(train.labels)
    if train.labels.startswith(borrowed_labels.EARLIER) and step not in kept:
      yield (
        f'runs.{name}.labels={train.labels!r}: no step that the pretraining of M_0 '
        f'keeps; choose from {kept} (base.loop), or name the folder of a label stage'
      )


def donors(runs: Runs, part: bool) -> Iterator[str]:
  """Labels of another part, in an experiment that is no part of several."""
  for name, train in runs.items():
    if not part and borrowed_labels.donor(train.labels) is not None:
      yield (
        f'runs.{name}.labels={train.labels!r}: an experiment alone has no parts; name '
        'the folder of a label stage'
      )


def audit(runs: Runs, label: schema.Label) -> Iterator[str]:
  """Labels of another model where something is trained."""
  for name, train in runs.items():
    if label.source and train.loop.steps:
      yield (
        f'label.source={label.source!r} makes an audit, in which nothing is trained, '
        f'but runs.{name}.loop.steps={train.loop.steps}: to train on the labels of '
        'another model, set train.labels and leave label.source empty'
      )


def served(runs: Runs, base: schema.Base) -> Iterator[str]:
  """A training of a model whose weights are elsewhere."""
  if not isinstance(base, schema.Served):
    return
  for name, train in runs.items():
    if train.loop.steps:
      yield (
        f'runs.{name}.loop.steps={train.loop.steps}: base.url={base.url} is served, '
        'and its weights cannot be trained: set it to 0, or give the checkpoint itself '
        'by base.checkpoint'
      )
    if train.context == 'after':
      yield (
        f'runs.{name}.context=after: base.url={base.url} is asked single questions; '
        'set it to before'
      )


def roles(
  report: schema.Report, runs: Runs, names: Sequence[str], part: bool
) -> Iterator[str]:
  """Roles that name no run, or a run that cannot play them."""
  if not names or (part and not report.main):
    return
  for role in ('main', *_ROLES):
    name = getattr(report, role)
    if (name or role == 'main') and name not in names:
      yield f'report.{role}={name!r} is not a run; choose from {sorted(names)}'
  if report.main not in runs:
    return
  main = runs[report.main]
  if main.evaluated != 'kept':
    yield (
      f'runs.{report.main}.evaluated={main.evaluated!r}, but it is report.main, whose '
      'step 0 says what M_0 states: set it to kept'
    )
  for role, difference in _ROLES.items():
    name = getattr(report, role)
    if name and name in runs and not _plays(role, runs[name], main):
      yield (
        f'report.{role}={name!r}: that run is not like report.main {difference}, and '
        f'nothing else; change runs.{name}, or set report.{role} to another run or to '
        'nothing'
      )


def _plays(role: str, train: schema.Train, main: schema.Train) -> bool:
  """Whether a run is the main one with a role's change; it may be looked at less."""
  kl = dataclasses.replace(main.objectives.behavior_kl, weight=0.0)
  changed, new = {
    'unregularised': (
      {'objectives': dataclasses.replace(main.objectives, behavior_kl=kl)},
      True,
    ),
    'sibling': ({'seed': train.seed}, train.seed != main.seed),
    'shuffled': ({'shuffle_labels': True}, not main.shuffle_labels),
  }[role]
  every = train.loop.checkpoint_every
  looked_at = {
    'loop': dataclasses.replace(main.loop, checkpoint_every=every),
    'evaluated': train.evaluated,
  }
  return new and train == dataclasses.replace(main, **changed, **looked_at)
