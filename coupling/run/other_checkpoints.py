"""Checkpoints that an audit is given several of: which are there, and their weights.

They are those of another trainer, or of an earlier training of this program; see
checkpoint_lists.py for how a config names them, completeness.py for when one is whole.
"""

from collections.abc import Iterator
import functools
import math
import pathlib
import time
from typing import Any

from coupling.checkpoints import completeness
from coupling.checkpoints import hub
from coupling.checkpoints import peft_format
from coupling.checkpoints import weights
from coupling.config import checkpoint_lists
from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.run import alikeness
from coupling.run import base_model
from coupling.run import own_checkpoints
from coupling.runtime import distributed
from coupling.runtime import interrupt
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from data import digests

Experiment = schema.Experiment
Path = pathlib.Path

POLL_SECONDS = 2.0  # how often a following evaluation looks for new checkpoints
TELL_SECONDS = 60.0  # how often it says that it waits


def check(e: Experiment, follow: bool) -> None:
  """See Given.check."""
  Given(e, Path(), e.seeds[0]).check(follow)


class Given:
  """The checkpoints of evaluate.checkpoints, as they are found, one after the other."""

  def __init__(self, e: Experiment, workdir: Path, seed: int):
    self._e, self._workdir, self._seed = e, workdir, seed
    self._text = e.evaluate.checkpoints
    self._mesh = sharding.make_mesh(e.mesh)
    self._name_of: dict[int, str] = {}  # step -> folder, or NAME@REVISION

  def check(self, follow: bool) -> None:
    """Looks at all that are there, before anything is spent; reads no weights.

    Raises:
      ConfigError: there are none, and none are waited for; one is damaged, or has
        another tokenizer, chat template or shape than M_0.
    """
    names = self._list()
    if not names and not follow:
      raise schema.ConfigError(checkpoint_lists.nothing(self._text))
    self._check_kinds(names)
    base = self._e.base
    if isinstance(base, schema.Import) and base.checkpoint in names.values():
      distributed.first(completeness.wait, Path(base.checkpoint))
    for name in names.values():
      folder = self._folder(name)
      if not follow or folder is None or completeness.damaged(folder) is None:
        self._ready(name)

  def kept(self, follow: bool) -> Iterator[int]:
    """The steps to evaluate, in order, each once its checkpoint is whole.

    With `follow` it goes on to wait for more, until the trainer's own state says that
    its last step is reached.

    Raises:
      ConfigError: as of `check`, of one that was not there then.
    """
    given, told = set(), -math.inf
    while True:
      names = self._list()
      if new := sorted(names.keys() - given):
        given.add(new[0])
        self._name_of |= names
        if self._ready(names[new[0]]):
          yield new[0]
        continue
      if not follow or self._ended(names):
        return
      interrupt.check()
      if time.monotonic() - told >= TELL_SECONDS:
        progress.line(
          f'waiting for {self._text}, which has no new checkpoint; Ctrl-C where '
          'nothing comes any more, then the same command without --follow'
        )
        told = time.monotonic()
      time.sleep(POLL_SECONDS)

  def params(self, step: int) -> decoder.Params:
    """All weights of a checkpoint.

    Raises:
      CheckpointError: a file is damaged, holds NaN or infinity, or tensors do not fit.
    """
    name, model = self._name_of[step], base_model.decoder(self._e)
    if (folder := self._folder(name)) is None:
      found = own_checkpoints.find(schema.Trained(step=name), self._seed)
      return base_model.trained_params(found, model, self._mesh)
    if peft_format.is_adapter(folder):
      return self._beside | base_model.beside(folder, model, self._mesh)
    like = sharding.abstract_params(self._mesh, model)
    return weights.load(folder, model, like)

  def note(self, step: int, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """What tells a checkpoint from another of its name: {name, files}.

    Files of weights with size, time of change and SHA-256; of a step of this program,
    the digest of its training. `before`: an earlier note, from which the digests of
    files are taken that have not been touched since.
    """
    name = self._name_of[step]
    if (folder := self._folder(name)) is None:
      trained = own_checkpoints.find(schema.Trained(step=name), self._seed).train
      return {'name': name, 'files': {'train': {'sha256': trained.digest}}}
    files, known = {}, before['files'] if before else {}
    for path in completeness.weight_files(folder):
      stat = path.stat()
      seen = {'size': stat.st_size, 'changed': stat.st_mtime_ns}
      there = known.get(path.name, {})
      if seen != {k: there.get(k) for k in seen}:
        there = {'sha256': digests.sha256(path)}
      files[path.name] = seen | {'sha256': there['sha256']}
    return {'name': name, 'files': files}

  def name(self, step: int) -> str:
    """Folder, or NAME@REVISION, of a step that `kept` has given."""
    return self._name_of[step]

  def gone(self, step: int) -> bool:
    """Whether the folder of a step that `kept` has given is there no more."""
    folder = self._folder(self._name_of[step])
    return folder is not None and not folder.is_dir()

  def more(self, steps: set[int]) -> list[str]:
    """Names of checkpoints that are there now, beside those of some steps."""
    names = self._list()
    return [names[step] for step in sorted(names.keys() - steps)]

  def check_measured(self, notes: dict[int, dict[str, Any]]) -> None:
    """Refuses checkpoints that are not those that were measured under their steps.

    Those that are gone by now, as trainers delete old ones, are not asked about.

    Args:
      notes: step -> its note.

    Raises:
      WorkdirError: another checkpoint, or other weights.
    """
    self._name_of |= checkpoint_lists.entries(self._text)
    for step in notes.keys() & self._name_of.keys():
      before, now = notes[step], self.note(step, notes[step])
      if _told(before) != _told(now):
        raise workdir_lib.WorkdirError(
          f'{now["name"]}: not the weights that were measured as step {step} (of '
          f'{before["name"]}): use another --workdir.'
        )

  def _list(self) -> dict[int, str]:
    """Step -> name, of all that are there now; as the first process sees it."""
    found = distributed.first(lambda: [*checkpoint_lists.entries(self._text).items()])
    return {step: name for step, name in found}

  def _check_kinds(self, names: dict[int, str]) -> None:
    """Raises ConfigError where steps of this program stand beside another base."""
    own = isinstance(self._e.base, schema.Trained)
    for name in names.values():
      if checkpoint_lists.is_own(name) != own:
        raise schema.ConfigError(
          f'{checkpoint_lists.FIELD}: {name} is {"not " * own}a step that this program '
          f'kept, but M_0 is {"" if own else "not "}one (base): give M_0 and all '
          'checkpoints of one kind'
        )

  def _folder(self, name: str) -> Path | None:
    """Where the weights lie, downloaded if need be; None: a step of this program."""
    if checkpoint_lists.is_own(name):
      return None
    source, revision = checkpoint_lists.split(name)
    path = Path(source).expanduser()
    if path.is_dir() or checkpoint_lists.growing(self._text):
      return path  # which may be empty yet, or gone again
    return hub.find(source, revision or None)

  @functools.cached_property
  def _beside(self) -> decoder.Params:
    """The weights that adapters stand beside."""
    base = base_model.base_params(self._e, self._workdir, self._seed)
    return decoder.without_adapters(base)

  def _ready(self, name: str) -> bool:
    """Waits until one is whole and holds it against M_0; False where it is gone."""
    if (folder := self._folder(name)) is None:
      own_checkpoints.find(schema.Trained(step=name), self._seed)
      return True
    here = folder == Path(name).expanduser()  # else in the hub's cache, whole
    if here and not distributed.first(completeness.wait, folder):
      progress.line(f'{folder} was removed before it was measured; it is left out')
      return False
    alikeness.check(self._e, folder)
    return True

  def _ended(self, names: dict[int, str]) -> bool:
    """Whether the trainer has reached its last step, or all were listed."""
    if not checkpoint_lists.growing(self._text):
      return True
    folders = [self._folder(name) for name in names.values()]
    if None in folders:
      return True
    last = completeness.state(folders[-1]) if folders else None
    steps = last and last.get('max_steps')
    return bool(steps) and last.get('global_step', 0) >= steps


def _told(note: dict[str, Any]) -> dict[str, str]:
  """The digests of a note."""
  return {name: found['sha256'] for name, found in note['files'].items()}
