"""The stage `patch`: which parts of a model carry its behaviour and its explanation.

  <workdir>/seed0/<run>/patch     maps of evaluated checkpoints, and a page of them

For pairs whose answer changes without the cue, every site is patched, and the sites
that matter most to the behaviour are knocked out against as many random ones.
"""

from collections.abc import Sequence
import functools
import pathlib
from typing import Any

import numpy as np

from coupling.config import schema
from coupling.elicit import label_set
from coupling.elicit import options
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.patching import aligned_prompts
from coupling.patching import engine
from coupling.patching import outcomes
from coupling.patching import question_pairs
from coupling.report import patch_page
from coupling.report import records
from coupling.run import base_model
from coupling.run import context
from coupling.run import steps as steps_lib
from coupling.runtime import distributed
from coupling.runtime import finite
from coupling.runtime import interrupt
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from coupling.statistics import effect_maps
from data import pairs as pairs_lib

Experiment = schema.Experiment


def check(e: Experiment, runs: Sequence[str]) -> None:
  """Raises ConfigError where some of the runs cannot be patched."""
  if not runs:
    return
  found, module = [], context.task_module(e)
  if distributed.several():
    found.append(
      'patch: one process patches; train by --distributed --stage=train and evaluate '
      'likewise, then run the same command without it'
    )
  if isinstance(e.base, schema.Served):
    found.append(
      f'patch: base.url={e.base.url} is served, and its activations cannot be reached: '
      'give the checkpoint itself by base.checkpoint'
    )
  if e.evaluate.checkpoints:
    found.append(
      f'patch: evaluate.checkpoints={e.evaluate.checkpoints!r} are not patched; audit '
      'one of them alone, by base.checkpoint or base.step'
    )
  if not hasattr(module, 'aligned'):
    found.append(
      f'task.module={e.task.module!r} cannot move a cue: give it a function '
      '`aligned(config, pair, option)`, see pairs.Aligned, or leave out --stage=patch'
    )
  if context.questions(e).detect is not None:
    found.append(
      'patch: this task reads behaviours from replies, which are no two options to '
      'compare; let it ask for a choice'
    )
  found += [
    f'runs.{run}.context=after: patching compares prompts, and here answers stand in '
    'them; patch a run that is asked before'
    for run in runs
    if e.runs[run].context == 'after'
  ]
  schema.ConfigError.refuse(found)
  sharding.check_batch(sharding.make_mesh(e.mesh), 'patch.batch', e.patch.batch)


def patch(e: Experiment, workdir: pathlib.Path, seed: int, run: str) -> bool:
  """Patches evaluated checkpoints of a run; False where that is done."""
  root = workdir / f'seed{seed}'
  evaluated = workdir_lib.finished_stage(
    root / run / 'evaluate', context.stage_config(e, 'evaluate', seed, run)
  )
  trained = workdir_lib.finished_stage(root / run / 'train')
  records.check_trained(trained, evaluated)
  needs = {'label': context.stage(e, workdir, seed, 'label'), 'evaluate': evaluated}
  config = context.stage_config(e, 'patch', seed, run)
  with workdir_lib.open_stage(root / run / 'patch', 'patch', config, needs) as stage:
    if stage.finished:
      return False
    every = records.evaluated_steps(evaluated.path())
    labelled, split = needs['label'].path(), e.evaluate.split
    pairs = label_set.read_pairs(labelled, split)
    asked = label_set.read_table(labelled, split, ('row', *records.QUESTION))
    how = context.how(e, needs['label'])
    params_at = steps_lib.reader(e, workdir, seed, run)
    chosen = spread(list(every), e.patch.checkpoints)
    for step in chosen:
      paths = {x: outcomes.path(stage.path(), x, step) for x in e.patch.contrasts}
      left = [(x, at) for x, at in paths.items() if not stage.sealed(at.stem)]
      params = params_at(step) if left else None
      for contrast, at in left:
        interrupt.check()
        bar = f'seed {seed} · {run} · step {step} · patch, {contrast}'
        did = records.read_evaluation(every[step], asked)
        with finite.during(bar):
          made = _checkpoint(e, seed, params, pairs, did, contrast, how, at, bar)
        stage.seal(at.stem, *made)
    found = outcomes.read_all(stage.path())
    patch_page.write(stage.path(), f'{run}, seed {seed}', found)
    stage.finish({})
    return True


def spread(steps: Sequence[int], count: int) -> list[int]:
  """Some of the steps, evenly spread: the last, and of several the first."""
  places = np.linspace(len(steps) - 1, 0, min(count, len(steps))).round().astype(int)
  return sorted(steps[i] for i in places)


def _checkpoint(
  e: Experiment,
  seed: int,
  params: decoder.Params,
  pairs: Sequence[pairs_lib.Pair],
  did: Any,
  contrast: str,
  how: options.How,
  at: pathlib.Path,
  bar: str,
) -> list[pathlib.Path]:
  """Patches one checkpoint and writes its records; returns their files.

  `did`: of its evaluation.
  """
  behavior_N, counterfactual_N = (
    did[name].to_numpy() for name in ('behavior', 'counterfactual_behavior')
  )
  # One order of all pairs, so that checkpoints and runs share what they can.
  order_N = np.random.default_rng(seed).permutation(len(pairs))
  changed_n = order_N[(behavior_N != counterfactual_N)[order_N]]
  row_n = np.sort(changed_n[: e.patch.pairs])
  align = functools.partial(context.task_module(e).aligned, e.task.config)
  asks = base_model.format(e), context.questions(e), [pairs[i] for i in row_n]
  did_n = behavior_N[row_n], counterfactual_N[row_n]
  if contrast == 'question':
    asked = question_pairs.contrasts(*asks, *did_n, align, how)
  else:
    moved = contrast == 'moved'
    asked = aligned_prompts.contrasts(*asks, *did_n, align, moved, how)
  counts = {'changed': len(changed_n), 'asked': len(row_n), 'aligned': 0, 'passes': 0}
  if asked is None:
    progress.line(bar, f'none of {len(row_n)} pairs aligns: nothing to patch')
    return outcomes.write(at, {}, None, counts)
  rows = row_n[asked.kept_N]
  maps, passes = measure(
    base_model.decoder(e),
    params,
    asked,
    batch=e.patch.batch,
    at_once=e.patch.sites_at_once,
    mesh=sharding.make_mesh(e.mesh),
    end_tokens=base_model.format(e).end_tokens,
    draws=e.patch.draws,
    seed=seed,
    label=bar,
  )
  about = {
    'prompt': [pairs[i].prompt for i in rows],
    'other_prompt': asked.others,
    'group': [pairs[i].group for i in rows],
  }
  used = int(effect_maps.used(maps.behavior).sum())
  counts |= {'aligned': len(rows), 'used': used, 'passes': passes}
  return outcomes.write(at, about, maps, counts)


def measure(
  config: DecoderConfig,
  params: decoder.Params,
  asked: aligned_prompts.Contrasts,
  *,
  draws: int,
  seed: int,
  label: str = 'patch',
  **how: Any,
) -> tuple[effect_maps.Maps, int]:
  """Both maps of a model, and what becomes of it without the sites that matter most.

  Args:
    config: the decoder's shape.
    params: its weights.
    asked: pairs, of aligned_prompts.contrasts.
    draws: sets of random sites to hold against the top ones.
    seed: of these draws.
    label: of the line of progress.
    **how: batch, at_once, mesh and end_tokens of engine.effects.

  Returns:
    The maps, each pair a group of its own, and the number of forward passes.
  """
  every = engine.sites(config)
  both = asked.behavior, asked.explanation
  live_2xR = ~np.array([[engine.inert(config, x, at) for at in every] for x in both])
  N, total = len(asked.kept_N), 0
  # Each call beside its sites: x, x', and x by the program that patches.
  passes = int(live_2xR.sum()) + 2 * 3 + 2 * 2 + 4 * (1 + draws + 3)
  bar = progress.Progress(label, N * passes, 'passes')

  def run(function, *args, **more):
    before = total

    def tell(passes):
      nonlocal total
      total = before + passes
      bar.update(total)

    return function(config, params, *args, tell=tell, **how, **more)

  behavior, explanation = (run(engine.maps, x) for x in both)
  live_R = live_2xR.all(0)
  sets = _knocked_out(every, live_R, behavior, draws, seed)
  chosen = [tuple(every[i] for i in some) for some in sets]
  settings = {k: x for k, x in how.items() if k != 'at_once'}
  own, other = [], []
  for x in both:
    means = engine.means(config, params, x, **settings)
    total += 2 * N
    own.append(run(engine.effects, x, chosen, means=means))
    other.append(run(engine.effects, x.swapped, chosen, means=means))
  maps = effect_maps.Maps(
    every, np.arange(N), behavior, explanation, live_R, sets, *own, *other
  )
  return maps, total


def _knocked_out(
  every: Sequence[effect_maps.Site],
  live_R: np.ndarray,
  behavior: effect_maps.Effects,
  draws: int,
  seed: int,
) -> list[np.ndarray]:
  """Places in `every`: of the sites that matter most to behaviour; of random ones."""
  among = effect_maps.compared(every, live_R, effect_maps.COMPONENTS)
  used_N = effect_maps.used(behavior)
  top = effect_maps.most(behavior.of(used_N) if used_N.any() else behavior, among)
  rng = np.random.default_rng(seed)
  return [top, *(effect_maps.matched(every, top, among, rng) for _ in range(draws))]
