"""The experiment as typed, immutable data: every field that a config may set.

Configs are `ml_collections.ConfigDict`s made by the files in configs/, which
validate.resolve turns into an `Experiment`. Everything below main.py takes these
dataclasses. Defaults are those of explanation training on an imported model of a
hundred million parameters by adapters; configs/common.py begins with them, and says
what larger models and the training of all weights have instead.
"""

import dataclasses
from typing import Any, Literal

from coupling.config.bounds import Axis, Clip, Count, Decay, Natural
from coupling.config.bounds import NotNegative, Positive, Share

# For all who read these.
from coupling.config.errors import ConfigError as ConfigError
from coupling.config.objectives import ExplanationXent as ExplanationXent
from coupling.config.objectives import BehaviorKL as BehaviorKL
from coupling.config.objectives import Shift as Shift
from coupling.config.objectives import BehaviorXent as BehaviorXent
from coupling.config.objectives import DPO as DPO
from coupling.config.objectives import Objectives as Objectives
from data import dates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """The counterfactual pairs: a module of data/ (or the user's own) and its Config."""

  module: str  # importable name, such as data.hint_mmlu
  config: Any  # the module's Config, a frozen dataclass; see strict.py


@dataclasses.dataclass(frozen=True, kw_only=True)
class Length:
  """Prompts that are too long are never cut."""

  max_tokens: Count = 1_024  # of a prompt with its answer
  too_long: Literal['raise', 'drop'] = 'drop'  # dropped pairs are counted and reported


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """See architecture.DecoderConfig; the vocabulary comes with the tokenizer."""

  width: Count
  depth: Count
  num_heads: Count
  num_kv_heads: Count
  head_dim: Count
  mlp_dim: Count
  activation: Literal['relu', 'silu', 'gelu_tanh']
  gated_mlp: bool
  qk_norm: bool
  tied_head: bool
  rope_theta: Positive
  learned_positions: Natural
  norm_eps: Positive
  embedding_std: NotNegative
  dtype: Literal['float32', 'bfloat16']
  param_dtype: Literal['float32', 'bfloat16']
  scan_layers: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """AdamW with a warm-up, then a constant or cosine learning rate."""

  learning_rate: Positive = 5e-4
  warmup_steps: Natural = 20
  schedule: Literal['constant', 'cosine'] = 'constant'
  b1: Decay = 0.9
  b2: Decay = 0.999
  weight_decay: NotNegative = 0.0
  clip_norm: Clip = 1.0  # global norm of the gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
  """How long, how often."""

  steps: Natural  # of a run: 0 leaves M_0 as it is
  steps_per_dispatch: Count = 1  # steps compiled into one program
  accumulation: Count = 1  # microbatches per step
  checkpoint_every: Count  # steps; these checkpoints are kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain:
  """M_0 is pretrained on the task's corpus."""

  model: Model
  seed: Natural  # beside the experiment's seed: other weights and order, the same world
  documents: Count
  batch: Count
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
  long_context: bool = False  # LongRoPE: rotate by long_factor, whatever the length


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
  """M_0 is a checkpoint that this program trained, of all weights or of adapters."""

  step: str  # its folder, .../train/checkpoints/<step>; {seed} stands for the seed


KEY = 'OPENAI_API_KEY'  # variable of the environment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
  """M_0 answers at an OpenAI-compatible endpoint; it can be audited, not trained."""

  url: str  # as http://localhost:8000/v1, without a password or a key
  model: str  # its name there, as GET /models lists it
  system: str | None = None  # turn that begins each chat; None: the server's own
  completions: bool = False  # ask /completions, as plain text; else /chat/completions
  thoughts: Natural = 0  # tokens that thoughts may take, before each answer
  key: str = KEY  # variable of the environment that has the API key
  concurrency: Count = 4  # requests at once
  timeout: Positive = 120.0  # seconds that an answer may take


Base = Pretrain | Import | Trained | Served
TASK = 'task'  # label.source: answers that the data bring along


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behavior:
  """How a choice among options is read.

  `read`: from the first token of each option, from its whole text, or from a greedy
  reply (data/reply_options.py). Tasks with a detector of their own read replies by it;
  there the rest keeps its defaults.
  """

  read: Literal['first_token', 'text', 'reply'] = 'first_token'
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
  batch: Count = 32
  shard: Count = 1_024  # pairs per file; what an interruption can cost
  # Support of the reference distributions.
  reference: Literal['vocabulary', 'options'] = 'options'
  reply_tokens: Count = 64  # longest reply, where behaviours are read from these
  stop_if_constant: bool = True  # where behaviour, or its change, hardly varies


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Low-rank adapters beside frozen weights; see lora.init."""

  rank: Natural = 32  # 0: none, all weights are trained
  alpha: Positive = 32.0
  targets: tuple[str, ...] = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')
  layers: Natural = 0  # adapters from this layer on; those below have no gradients


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """Explanation training on fixed labels, which label_rules.py makes."""

  seed: Natural = 0  # beside the experiment's seed: siblings differ in this alone
  start: str = ''  # run whose last weights are trained on; '' for M_0
  # Whose: '' for M_0's own, step:N for those of that step of its pretraining, run:NAME
  # for those of another run's end, part:NAME for those of another part of the paper, or
  # the folder of a label stage, in which {seed} stands for the seed.
  labels: str = ''
  mixture: Share = 1.0  # of the items take `labels`; the others, M_0's own
  noise: Share = 0.0  # of labels are replaced by another statement, drawn uniformly
  changed_share: Share = 1.0  # of labels, at most, say "changed"; others are left out
  balance: bool = False  # "changed" and "unchanged" are drawn equally often
  shuffle_labels: bool = False  # control: labels permuted over the training items
  # Unshifted: not those that objectives.shift concerns.
  explained: Literal['all', 'unshifted'] = 'all'
  # Asked before the answer, or after it: M_0's in training, then the model's own.
  context: Literal['before', 'after'] = 'before'
  practice: bool = False  # behaviour objectives have the split splits.PRACTICE too
  explanation_batch: Count = 8
  behavior_batch: Count = 32  # prompts, of x and x∖C alike; not with trees
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
  """What is measured, and of which checkpoints.

  `checkpoints`: in an audit several given ones, see checkpoint_lists.py; '' for the
  kept steps of each run, in an audit M_0 itself.
  """

  split: Literal['validation', 'test'] = 'test'
  checkpoints: str = ''
  batch: Count = 32
  likelihood: bool = False  # score every allowed statement too


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patch:
  """Activation patching of evaluated checkpoints, by --stage=patch."""

  # What x' is: x with its cue moved to the answer without it, or x without a cue; or,
  # of the half v' of explanations, the prompt of another question.
  contrasts: tuple[Literal['moved', 'removed', 'question'], ...] = ('moved',)
  checkpoints: Count = 2  # of those that were evaluated, from the first to the last
  pairs: Count = 256  # at most, of those whose answer changes without the cue
  batch: Count = 32
  sites_at_once: Count = 8
  draws: Count = 20  # sets of random sites, to hold against those that matter most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
  """Devices by axis; -1 for one axis means all that remain."""

  data: Axis = 1
  fsdp: Axis = -1
  tensor: Axis = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What is compared with what; names of runs, '' for none."""

  title: str
  main: str
  unregularised: str = ''
  sibling: str = ''
  shuffled: str = ''

  @property
  def played(self) -> tuple[str, ...]:
    """The runs that are compared."""
    every = (self.main, self.unregularised, self.sibling, self.shuffled)
    return tuple(dict.fromkeys(run for run in every if run))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """One config file, resolved."""

  seeds: tuple[Natural, ...]
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
