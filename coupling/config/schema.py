"""The experiment as typed, immutable data: every field that a config may set.

Configs are `ml_collections.ConfigDict`s made by the files in configs/, which
validate.resolve turns into an `Experiment`. Everything below main.py takes these
dataclasses. Defaults are those of explanation training on an imported model of a
hundred million parameters by adapters; configs/common.py begins with them, and says
what larger models and the training of all weights have instead.
"""

from collections.abc import Iterable
import dataclasses
from typing import Any, Literal, Self

from data import dates

_CANNOT = 'the config cannot be run:'


class ConfigError(ValueError):
  """A config that cannot be run; the message names the field and the remedy."""

  @classmethod
  def of(cls, problems: Iterable[str]) -> Self:
    """The error that lists these problems, each once."""
    lines = (f'  {problem}' for problem in dict.fromkeys(problems))
    return cls('\n'.join((_CANNOT, *lines)))

  @classmethod
  def refuse(cls, *problems: list[str]) -> None:
    """Raises the error that lists all of these, if there are any."""
    if found := [problem for some in problems for problem in some]:
      raise cls.of(found)

  @property
  def problems(self) -> list[str]:
    """Those that it lists, or its own text."""
    first, *lines = str(self).split('\n  ')
    return lines if first == _CANNOT else [str(self)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """The counterfactual pairs: a module of data/ (or the user's own) and its Config."""

  module: str  # importable name, such as data.hint_mmlu
  config: Any  # the module's Config, a frozen dataclass; see fields.SUPPORTED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Length:
  """Prompts that are too long are never cut."""

  max_tokens: int = 1_024  # of a prompt with its answer
  too_long: Literal['raise', 'drop'] = 'drop'  # dropped pairs are counted and reported


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """See decoder.DecoderConfig; the vocabulary comes with the tokenizer."""

  width: int
  depth: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int
  activation: Literal['relu', 'silu', 'gelu_tanh']
  gated_mlp: bool
  qk_norm: bool
  tied_head: bool
  rope_theta: float
  learned_positions: int
  norm_eps: float
  embedding_std: float
  dtype: Literal['float32', 'bfloat16']
  param_dtype: Literal['float32', 'bfloat16']
  scan_layers: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """AdamW with a warm-up, then a constant or cosine learning rate."""

  learning_rate: float = 5e-4
  warmup_steps: int = 20
  schedule: Literal['constant', 'cosine'] = 'constant'
  b1: float = 0.9
  b2: float = 0.999
  weight_decay: float = 0.0
  clip_norm: float = 1.0  # global norm of the gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
  """How long, how often."""

  steps: int  # of a run: 0 leaves M_0 as it is
  steps_per_dispatch: int = 1  # steps compiled into one program
  accumulation: int = 1  # microbatches per step
  checkpoint_every: int  # steps; these checkpoints are kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain:
  """M_0 is pretrained on the task's corpus."""

  model: Model
  seed: int  # beside the experiment's seed: other weights and order, the same world
  documents: int
  batch: int
  loop: Loop
  optimizer: Optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
  """M_0 is a checkpoint in the hub's format, or a GGUF file."""

  checkpoint: str  # a folder, a GGUF file, or a name on the hub
  revision: str = ''  # on the hub; '' for its main branch
  chat: bool = True  # ask by the tokenizer's chat template; else as plain text
  thinking: bool = False  # in a chat whose behaviours are read from replies
  date: str = dates.DATE  # of the chats, for templates that write the day
  system: str | None = None  # turn that begins each chat; None: the template's own
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  param_dtype: Literal['float32', 'bfloat16'] = 'float32'
  scan_layers: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
  """M_0 is a checkpoint that this program trained, of all weights or of adapters."""

  step: str  # its folder, .../train/checkpoints/<step>; {seed} stands for the seed


Base = Pretrain | Import | Trained
TASK = 'task'  # label.source: answers that the data bring along


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behavior:
  """How a choice among options is read, where a task does not read it from replies."""

  read: Literal['first_token', 'text'] = 'first_token'  # of each option
  per_token: bool = False  # of text: mean log-probability of its tokens, not their sum
  # Taken from every slot's log-probability: nothing, or M_0's mean of it over prompts.
  calibration: Literal['none', 'prior'] = 'none'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
  """B(M_0), E(M_0) and M_0's reference distributions.

  `source`: whose behaviours are the labels: '' for M_0's own; a folder of a label stage
  of another model on the same pairs ({seed} stands for the seed), or 'task' for answers
  that the data bring along, when nothing is trained here (an audit).
  """

  source: str = ''
  batch: int = 32
  shard: int = 1_024  # pairs per file; what an interruption can cost
  # Support of the reference distributions.
  reference: Literal['vocabulary', 'options'] = 'options'
  reply_tokens: int = 64  # longest reply, where the task reads behaviours from replies
  stop_if_constant: bool = True  # where behaviour, or its change, hardly varies


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplanationXent:
  weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviorKL:
  """`reference`: M_0's distributions as the label set keeps them, or computed in the
  train step by the same weights without their adapters (LoRA alone)."""

  weight: float = 1.0
  prompts: Literal['both', 'counterfactual'] = 'both'  # x and x∖C, or x∖C alone
  # KL(M_0 || M_t) or KL(M_t || M_0).
  direction: Literal['forward', 'reverse'] = 'forward'
  # Behaviours are choices among the options, so these are what is held.
  support: Literal['vocabulary', 'options'] = 'options'
  reference: Literal['labels', 'adapters_off'] = 'labels'


@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviorXent:
  """Post-training that shifts behaviour, where behavior_kl then lets it go.

  `target` is what the shift is towards: on x, `ignore_cue` (M_0's answer on x∖C) or
  `follow_cue` (the cue's option); or, on x and x∖C, one of the task's PREFERENCES:
  M_0's distribution over the options, with `strength` times the preference's scores
  added to its log-probabilities.
  """

  weight: float = 0.0
  target: str = 'ignore_cue'
  strength: float = 1.0  # nats per score; of preferences alone
  seed: int = 0  # of what a preference draws at random
  cues: str = (
    'all'  # whose pairs: all, explained, unexplained (pairs.Questions), or one kind
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objectives:
  """Terms of the loss, see loss.py; a weight of 0 leaves a term out."""

  explanation_xent: ExplanationXent = ExplanationXent()
  behavior_kl: BehaviorKL = BehaviorKL()
  behavior_xent: BehaviorXent = BehaviorXent()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Low-rank adapters beside frozen weights; see lora.init."""

  rank: int = 32  # 0: none, all weights are trained
  alpha: float = 32.0
  targets: tuple[str, ...] = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')
  layers: int = 0  # adapters from this layer on; those below have none, nor gradients


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """Explanation training on fixed labels, which label_rules.py makes."""

  seed: int = 0  # beside the experiment's seed: siblings differ in this alone
  start: str = ''  # run whose last weights are trained on; '' for M_0
  # Whose: '' for M_0's own, step:N for those of that step of its pretraining, part:NAME
  # for those of another part of the paper, or the folder of a label stage, in which
  # {seed} stands for the seed.
  labels: str = ''
  mixture: float = (
    1.0  # share of the items that take `labels`; the others take M_0's own
  )
  noise: float = 0.0  # share of labels replaced by another statement, drawn uniformly
  # At most this share of labels say "changed"; others are left out.
  changed_share: float = 1.0
  balance: bool = False  # "changed" and "unchanged" are drawn equally often
  shuffle_labels: bool = False  # control: labels permuted over the training items
  # Unshifted: not those that behavior_xent names.
  explained: Literal['all', 'unshifted'] = 'all'
  # Asked before the answer, or after it: M_0's in training, then the model's own.
  context: Literal['before', 'after'] = 'before'
  practice: bool = False  # behaviour objectives have the split splits.PRACTICE too
  explanation_batch: int = 8
  behavior_batch: int = 32  # prompts, of x and x∖C alike; not with trees
  # Questions about one pair share what they begin with (tree_batches.py). A draw is
  # then of explanation_batch pairs that are explained, each with its two behaviour
  # prompts, and of pairs that are not, or of `practice`, in proportion to their number.
  trees: bool = True
  remat: Literal['none', 'dots', 'full'] = 'none'  # memory for time: stack.REMAT
  # Of training; cudnn: fused, on NVIDIA GPUs.
  attention: Literal['blocks', 'cudnn'] = 'blocks'
  lora: Lora = Lora()
  loop: Loop = Loop(steps=200, checkpoint_every=100)
  optimizer: Optimizer = Optimizer()
  objectives: Objectives = Objectives()
  evaluated: Literal['kept', 'last'] = 'kept'  # which of the kept steps are evaluated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
  split: Literal['validation', 'test'] = 'test'
  batch: int = 32
  likelihood: bool = False  # score every allowed statement too


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patch:
  """Activation patching of evaluated checkpoints, by --stage=patch."""

  # What x' is: x with its cue moved to the answer without it, or x without a cue.
  contrasts: tuple[Literal['moved', 'removed'], ...] = ('moved',)
  checkpoints: int = 2  # of those that were evaluated, from the first to the last
  pairs: int = 256  # at most, of those whose answer changes without the cue
  batch: int = 32
  sites_at_once: int = 8
  draws: int = 20  # sets of random sites, to hold against those that matter most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
  """Devices by axis; -1 for one axis means all that remain."""

  data: int = 1
  fsdp: int = -1
  tensor: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What is compared with what; names of runs, '' for none."""

  title: str
  main: str
  unregularised: str = ''
  sibling: str = ''
  shuffled: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """One config file, resolved."""

  seeds: tuple[int, ...]
  task: Task
  base: Base
  length: Length
  label: Label
  train: Train
  evaluate: Evaluate
  patch: Patch
  report: Report
  mesh: Mesh
  behavior: Behavior = Behavior()
  # Name -> training, after the run's own changes.
  runs: dict[str, Train] = dataclasses.field(hash=False)

  @property
  def trained(self) -> dict[str, Train]:
    """The runs that have steps; a run without any is M_0 as it is."""
    return {name: train for name, train in self.runs.items() if train.loop.steps}


Kind = Literal[
  'regularisation',
  'trajectory',
  'sources',
  'noise',
  'shift',
  'planted',
  'capacity',
  'rates',
  'variety',
  'access',
  'collapse',
  'mechanism',
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """One claim of the paper, and the runs of a Paper that speak to it."""

  kind: Kind
  claim: str  # one sentence, of the paper
  published: str  # its number in words; '' for none
  axis: str  # name of the x axis; '' for none
  runs: tuple[str, ...]  # 'part/run', in order
  at: tuple[float, ...]  # x of each run; () where runs are not ordered
  companions: tuple[str, ...]  # for each run the one to compare it with; '' for none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
  """Several experiments, each with a workdir of its own, and what they are to show."""

  title: str
  parts: dict[str, Experiment] = dataclasses.field(hash=False)
  studies: dict[str, Study] = dataclasses.field(hash=False)

  @property
  def patched(self) -> frozenset[str]:
    """The runs, as 'part/run', whose circuits a study asks for."""
    asking = [x for x in self.studies.values() if x.kind == 'mechanism']
    return frozenset(run for study in asking for run in study.runs)
