"""Several runs at once: each is the run alone, resumes like it, and compiles once."""

import dataclasses
import functools
import json
import pathlib
import shutil
import signal
import struct

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from configs import common
from benchmarks import interruptions
from coupling.checkpoints import kept_steps
from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.runtime import interrupt
from coupling.training import sweep
from coupling.training import train_loop
from coupling.training import train_step
from tests.training import test_train_step

pytestmark = pytest.mark.usefixtures('few_optimizations')

MODEL = dataclasses.replace(
  test_train_step.MODEL, width=8, depth=1, num_heads=2, num_kv_heads=1, mlp_dim=16
)
LOOP = test_train_step.LOOP  # 8 steps, two at a time, kept every 4
RUNS = 3
BATCH = 8


def objectives(
  held: float, shift: float = 0.3, reference: str = 'labels', **changes
) -> schema.Objectives:
  kl = dataclasses.replace(
    test_train_step.OBJECTIVES.behavior_kl, weight=held, reference=reference, **changes
  )
  xent = dataclasses.replace(test_train_step.OBJECTIVES.behavior_xent, weight=shift)
  return dataclasses.replace(
    test_train_step.OBJECTIVES, behavior_kl=kl, behavior_xent=xent
  )


@functools.cache
def init(seed: int) -> decoder.Params:
  return decoder.init(MODEL, seed)


def training(folder: pathlib.Path, run: int, **changes) -> train_loop.Training:
  """Runs differ in all that may differ: rate, weights, data, seeds, M_0, folders."""
  rows = test_train_step.make_batch(100 + run)  # 16 rows, of which 8 are a batch
  held = objectives(held=0.5 + run, shift=0.3 / (1 + run))
  fields = dict(
    title=f'run {run}',
    model=MODEL,
    low_rank=None,
    objectives=held,
    optimizer=dataclasses.replace(
      test_train_step.OPTIMIZER, learning_rate=1e-2 * (1 + run)
    ),
    loop=LOOP,
    mesh_axes=schema.Mesh(data=-1, fsdp=1, tensor=1),
    params=init(run % RUNS),
    frozen={},
    parts={name: (part, BATCH) for name, part in rows.items()},
    data_seed=run,
    plan=None,
    folder=folder / f'run{run}' / 'checkpoints',
    log=folder / f'run{run}' / 'log',
  )
  return train_loop.Training(**fields | changes)


def trainings(folder: pathlib.Path, runs: int = RUNS) -> list[train_loop.Training]:
  return [training(folder, run) for run in range(runs)]


def kept(folder: pathlib.Path) -> dict[int, dict]:
  """All that is kept of a run: step -> parameters, optimizer, position."""
  found = {}
  for path in sorted(p for p in folder.iterdir() if p.is_dir()):
    items = ('params', 'optimizer')
    trees = {name: interruptions.read(path / name) for name in items}
    position = json.loads((path / 'position' / 'metadata').read_text())
    files = sorted(p.name for p in path.iterdir())
    found[int(path.name)] = trees | {'position': position, 'files': files}
  return found


def logged(folder: pathlib.Path) -> dict[tuple[str, int], float]:
  """(metric, step) -> what the log said last."""
  found = {}
  for path in sorted(folder.glob('events*'), key=lambda p: p.stat().st_mtime_ns):
    data = path.read_bytes()
    while data:  # records of TFRecord: length, its CRC, content, its CRC
      (length,) = struct.unpack('<Q', data[:8])
      event = event_pb2.Event.FromString(data[12 : 12 + length])
      for value in event.summary.value:
        found[value.tag, event.step] = value.simple_value
      data = data[16 + length :]
  return found


def results(one: train_loop.Training) -> tuple[dict, dict]:
  return kept(one.folder), logged(one.log)


def compare(found, want, close: float = 0.0) -> None:
  """Equal trees: bit for bit, or to a relative tolerance."""
  assert jax.tree.structure(found) == jax.tree.structure(want)

  def one(x, y):
    if close and not isinstance(x, str | int):
      np.testing.assert_allclose(x, y, rtol=close, atol=close)
    else:
      np.testing.assert_array_equal(x, y)

  jax.tree.map(one, found, want)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('sweep')


@pytest.fixture(scope='module')
def alone(folder):
  """Run -> what it leaves when it is trained alone."""

  @functools.cache
  def results_of(run):
    one = training(folder / 'alone', run)
    train_loop.fit(one)
    return results(one)

  return results_of


@pytest.fixture(scope='module')
def at_once(folder):
  """The runs that were trained at once, their weights, and how often it was traced."""
  traced, step = [], train_step.train_step
  several = trainings(folder / 'at_once')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train_step, 'train_step', lambda *x: traced.append(x) or step(*x))
    params = sweep.fit(several)
  return several, params, len(traced)


@pytest.mark.parametrize('run', range(RUNS))
def test_a_run_in_a_sweep_is_the_run_alone_bit_for_bit(alone, at_once, run):
  several, params, _ = at_once
  found = results(several[run])
  assert [*found[0]] == [0, 4, 8]
  assert len(found[1]) == 5 * 4  # metrics, dispatches
  compare(found, alone(run))
  last = found[0][8]['params']
  compare(jax.tree.map(np.asarray, params[run]), last)
  for other in set(range(RUNS)) - {run}:
    embedding_VxD = np.asarray(params[other]['embed']['embedding'])
    assert not np.array_equal(embedding_VxD, last['embed']['embedding'])


def test_rates_weights_and_labels_trace_once(at_once, folder, monkeypatch):
  *_, traced = at_once
  assert traced == 1
  monkeypatch.setattr(train_step, 'train_step', lambda *x: pytest.fail('traced again'))
  others = [
    training(
      folder / 'others',
      run,
      objectives=objectives(held=5.0 - run, shift=1.0),
      optimizer=dataclasses.replace(test_train_step.OPTIMIZER, learning_rate=1e-3),
    )
    for run in range(RUNS)
  ]
  sweep.fit(others)


def test_vectorised_runs_of_uneven_lengths_are_the_runs_alone_to_rounding(
  alone, folder
):
  """One run's prompts, answers and options are longer, by what it leaves out."""
  several = trainings(folder / 'vectorised')
  wide = dict(several[1].parts)
  for name, (rows, batch) in wide.items():
    wide[name] = (longer(rows), batch)
  several[1] = dataclasses.replace(several[1], parts=wide)
  sweep.fit(several, vectorised=True)
  for run, one in enumerate(several):
    compare(results(one), alone(run), close=2e-4)


def longer(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Further tokens that are not valid, answers that do not count, absent options."""
  nothing = {'options': -1, 'reference': -np.inf, 'tokens': 7, 'target': 3}

  def wider(name, x):
    # A choice is read at one position.
    wide = [(0, 0) if size == 1 else (0, 2) for size in x.shape[1:]]
    return np.pad(x, [(0, 0), *wide], constant_values=nothing.get(name, 0))

  return {name: wider(name, x) for name, x in rows.items()}


@pytest.mark.parametrize('one_base', [True, False])
def test_adapters_beside_a_base_of_all_runs_or_of_each(folder, one_base):
  low_rank = schema.Lora(rank=2, alpha=4.0, targets=('q', 'down'))
  bases = [init(0), init(0) if one_base else init(1)]

  def several(where):
    return [
      training(
        folder / f'{where}{one_base}',
        run,
        low_rank=low_rank,
        objectives=objectives(held=0.5 + run, reference='adapters_off'),
        params=train_step.fresh_adapters(MODEL, low_rank, run),
        frozen=base,
      )
      for run, base in enumerate(bases)
    ]

  sweep.fit(several('adapters'))
  for one, other in zip(several('adapters'), several('adapters_alone')):
    train_loop.fit(other)
    compare(results(one), results(other))


class Killed(Exception):
  pass


def test_a_sweep_goes_on_from_the_latest_step_that_all_runs_have_kept(
  alone, at_once, tmp_path, monkeypatch
):
  """It ends between the saves of two runs: the first is a checkpoint ahead."""
  save, saved = kept_steps.Checkpoints.save, []

  def save_until(self, state, position):
    saved.append((position['data_seed'], int(state['step'])))
    if saved[-1] == (1, 8):
      raise Killed
    save(self, state, position)

  with monkeypatch.context() as patch:
    patch.setattr(kept_steps.Checkpoints, 'save', save_until)
    with pytest.raises(Killed):
      sweep.fit(trainings(tmp_path))
  several = trainings(tmp_path)
  steps = [sorted(kept(one.folder)) for one in several]
  assert steps == [[0, 4, 8], [0, 4], [0, 4]]
  ran = steps_run(monkeypatch)
  sweep.fit(several)
  assert ran == [4, 6]
  for run, one in enumerate(several):
    compare(results(one), alone(run))


def test_a_run_without_a_checkpoint_starts_the_sweep_anew(
  alone, at_once, tmp_path, monkeypatch
):
  sweep.fit(trainings(tmp_path))
  several = trainings(tmp_path)
  assert sweep.side_by_side(several)
  shutil.rmtree(several[2].folder)
  assert not sweep.side_by_side(several)  # so that the stage trains them alone
  ran = steps_run(monkeypatch)
  sweep.fit(several)
  assert ran == [0, 2, 4, 6]
  for run, one in enumerate(several):
    compare(results(one), alone(run))


def test_a_signal_saves_all_runs_and_the_sweep_goes_on_there(
  alone, at_once, tmp_path, monkeypatch, capsys
):
  several = trainings(tmp_path)
  with monkeypatch.context() as patch:
    ran = steps_run(patch)
    patch.setattr(interrupt, '_received', [signal.SIGTERM])
    patch.setattr(interrupt, 'requested', lambda: len(ran) == 3)  # in the third
    with pytest.raises(interrupt.Interrupted):
      sweep.fit(several)
  assert [sorted(kept(one.folder)) for one in several] == [[0, 4, 6]] * RUNS
  ran = steps_run(monkeypatch)
  sweep.fit(several)
  assert ran == [6]
  for run, one in enumerate(several):
    compare(results(one), alone(run))
  told = capsys.readouterr().err.splitlines()
  assert any(
    'and 2 other runs at once' in line and 'loss' in line and 'highest' in line
    for line in told
  )


def steps_run(patch: pytest.MonkeyPatch) -> list[int]:
  """Collects the first step of every dispatch from now on."""
  found, batches = [], train_loop._Run.batches

  def noting(self, step):
    if self._training.data_seed == 0:
      found.append(step)
    return batches(self, step)

  patch.setattr(train_loop._Run, 'batches', noting)
  return found


def test_runs_may_be_kept_at_different_steps(alone, at_once, tmp_path):
  rare = dataclasses.replace(LOOP, checkpoint_every=8)
  several = trainings(tmp_path)
  several[1] = training(tmp_path, 1, loop=rare)
  sweep.fit(several)
  assert [sorted(kept(one.folder)) for one in several] == [[0, 4, 8], [0, 8], [0, 4, 8]]
  want = alone(1)
  compare(results(several[1]), ({k: want[0][k] for k in (0, 8)}, want[1]))


def on_devices(folder: str) -> None:
  """Trains sixteen runs on eight devices; prints where they lay, and a refusal."""
  runs, take = [], sharding.take_run

  def noting(stacked, run):
    kernel = stacked['params']['embed']['embedding']
    runs.append([x.data.shape for x in kernel.addressable_shards])
    return take(stacked, run)

  sharding.take_run = noting
  half = dataclasses.replace(LOOP, steps=4)
  several = [training(pathlib.Path(folder), run, loop=half) for run in range(16)]
  try:
    sweep.fit(several[:12])
  except schema.ConfigError as error:
    refusal = str(error)
  untouched = not any(pathlib.Path(folder).iterdir())
  sweep.fit(several)
  print(json.dumps([jax.device_count(), runs[0], refusal, untouched]))


def test_on_eight_devices_each_run_is_the_run_alone_on_one(alone, tmp_path):
  code = (
    f'from tests.training import test_sweep; test_sweep.on_devices({str(tmp_path)!r})'
  )
  printed = test_train_step.run_on_devices(8, code)
  devices, shapes, refusal, untouched = json.loads(printed)
  assert devices == 8 and untouched
  assert shapes == [[2, 23, 8]] * 8
  assert '12 runs at once do not divide over 8 devices' in refusal
  for run in range(RUNS):
    want_kept, want_logged = alone(run)  # of 8 steps
    want = (
      {step: want_kept[step] for step in (0, 4)},
      {(name, step): x for (name, step), x in want_logged.items() if step <= 4},
    )
    compare(results(training(tmp_path, run)), want, close=1e-4)


def test_runs_of_two_kinds_or_one_folder_are_refused(tmp_path):
  one, two = trainings(tmp_path, 2)
  cosine = dataclasses.replace(two.optimizer, schedule='cosine')
  for changes, message in (
    (
      dict(optimizer=cosine),
      r'run 0 and run 1 .* optimizer.schedule is constant and cosine',
    ),
    (dict(objectives=objectives(held=0.0)), 'form is'),
    (dict(loop=dataclasses.replace(LOOP, steps=12)), 'steps is 8 and 12'),
    (dict(parts={k: (x, 16) for k, (x, _) in two.parts.items()}), 'batches is'),
    (dict(folder=one.folder), 'a folder of its own'),
  ):
    with pytest.raises(schema.ConfigError, match=message):
      sweep.fit([one, dataclasses.replace(two, **changes)])
  assert not one.folder.exists()


TRAIN = schema.Train(
  **common.LABELS,
  explanation_batch=8,
  behavior_batch=8,
  lora=schema.Lora(rank=0, alpha=1.0, targets=()),
  loop=LOOP,
  optimizer=test_train_step.OPTIMIZER,
  objectives=objectives(held=1.0),
)


def test_runs_are_grouped_by_what_they_compile_to():
  other = lambda field, **changes: dataclasses.replace(
    TRAIN, **{field: dataclasses.replace(getattr(TRAIN, field), **changes)}
  )
  none = dataclasses.replace(TRAIN, objectives=objectives(held=0.0, shift=0.0))
  runs = {
    'main': TRAIN,
    'sibling': dataclasses.replace(TRAIN, seed=1),
    'no_kl': dataclasses.replace(TRAIN, objectives=objectives(held=0.0)),
    'rate': other('optimizer', learning_rate=1.0),
    'weight': dataclasses.replace(TRAIN, objectives=objectives(held=3.0)),
    'foreign': dataclasses.replace(TRAIN, labels='elsewhere'),
    'shuffled': dataclasses.replace(TRAIN, shuffle_labels=True),
    'rarely kept': other('loop', checkpoint_every=8),
    'no_kl_rate': dataclasses.replace(
      other('optimizer', learning_rate=1.0), objectives=objectives(held=0.0)
    ),
    'reverse': dataclasses.replace(
      TRAIN, objectives=objectives(held=1.0, direction='reverse')
    ),
    'warm': other('optimizer', warmup_steps=0),
    'long': other('loop', steps=16),
    'coarse': other('loop', steps_per_dispatch=4),
    'halves': other('loop', accumulation=2),
    'rank': other('lora', rank=4),
    'batch': dataclasses.replace(TRAIN, behavior_batch=16),
    'none': none,
    'none of any batch': dataclasses.replace(none, behavior_batch=16),
  }
  found = sweep.groups({name: (MODEL, config) for name, config in runs.items()})
  together = ['main', 'sibling', 'rate', 'weight', 'foreign', 'shuffled', 'rarely kept']
  assert found == [
    together,
    ['no_kl', 'no_kl_rate'],
    *([name] for name in ('reverse', 'warm', 'long', 'coarse', 'halves', 'rank')),
    ['batch'],
    ['none', 'none of any batch'],
  ]
  deeper = dataclasses.replace(MODEL, depth=2)
  assert len(sweep.groups({1: (MODEL, TRAIN), 2: (deeper, TRAIN)})) == 2


def test_a_config_and_its_training_are_of_one_kind(tmp_path):
  """What was planned together by configs is not refused when it is trained."""
  one = training(tmp_path, 0, objectives=TRAIN.objectives)
  assert sweep._kind_of(one) == sweep._kind_of_config(MODEL, TRAIN)
