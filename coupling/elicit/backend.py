"""The backend protocol: what a model must do to be audited, whatever computes it.

Shapes: N prompts, K options of a prompt.
"""

from collections.abc import Sequence
import dataclasses
import math
import pathlib
from typing import Any, Protocol

from coupling.config import schema


class Backend(Protocol):
  """A model that answers questions; one that is served, or an object of the user's.

  A prompt is the text of a question, the user's turn of a chat; rendering it by a chat
  template is the backend's business. The same prompt must give the same answer. What
  the methods raise ends the audit. `choose` may be missing: behaviours are then read
  from greedy replies (behavior.read=reply).
  """

  def choose(
    self, prompts: Sequence[str], options: Sequence[Sequence[str]]
  ) -> Sequence[Sequence[float]]:
    """How likely each option is as the answer.

    Args:
      prompts: N questions.
      options: of each, its K options (K may differ), as the model would write them.

    Returns:
      N rows of K finite log-probabilities, in nats; they need not add up to one.
    """
    ...

  def generate(self, prompts: Sequence[str], max_tokens: int) -> Sequence[str]:
    """The greedy answer to each of N questions, without thoughts and control tokens.

    `max_tokens`: of an answer, at most; a longer one is cut.
    """
    ...


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Asked:
  """A backend in the place of a models.Model, which can be asked and not trained.

  Attributes:
    backend: that answers.
    origin: what it is, as JSON.
    section: what a config says of it, where one can.
    axes: of devices here, which it does not use.
  """

  backend: Backend
  origin: dict[str, Any]
  section: schema.Base | None = None
  axes: schema.Mesh = schema.Mesh()
  training: None = None

  def __repr__(self) -> str:
    return f'Asked({self.origin["name"]!r})'


def asked(backend: Any) -> Asked:
  """A Python object as a model; raises ConfigError where it lacks `generate`."""
  name = type(backend).__qualname__
  if isinstance(backend, str | pathlib.Path):
    raise schema.ConfigError(f'model={str(backend)!r}: give cp.load({str(backend)!r})')
  if isinstance(backend, type):
    name = backend.__qualname__
    raise schema.ConfigError(
      f'model={name}: is a class; give an object of it, {name}()'
    )
  if not callable(getattr(backend, 'generate', None)):
    raise schema.ConfigError(
      f'model: {name} is neither a model of cp.load nor a backend: it has no '
      'generate(prompts, max_tokens); see coupling/elicit/backend.py'
    )
  return Asked(backend, {'name': name, 'kind': 'a Python object'})


def can_choose(model: Asked) -> bool:
  """Whether it gives log-probabilities of options."""
  return callable(getattr(model.backend, 'choose', None))


def problems(
  name: str,
  chooses: bool,
  behavior: schema.Behavior,
  label: schema.Label,
  replies: bool,
) -> list[str]:
  """Ways of reading a behaviour that a backend does not have.

  Args:
    name: of the backend.
    chooses: whether it has `choose`.
    behavior: how a choice is read.
    label: what is kept of it.
    replies: whether it is read from replies, by the config or by the task.
  """
  found = []
  if not replies and behavior.read == 'text':
    found.append(
      f'behavior.read=text: {name} does not give the likelihood of whole texts; set it '
      'to reply, and label by it too'
    )
  elif not replies and not chooses:
    found.append(
      f'behavior.read={behavior.read}: {name} has no choose(prompts, options); set it '
      'to reply, or give it one'
    )
  if label.reference == 'vocabulary' and not label.source:
    found.append(
      f'label.reference=vocabulary: {name} gives no distribution over a vocabulary; '
      'set it to options'
    )
  return found


def generate(model: Asked, prompts: Sequence[str], max_tokens: int) -> list[str]:
  """N greedy answers; raises ConfigError where it gives anything but N texts."""
  texts = model.backend.generate(prompts, max_tokens)
  if not isinstance(texts, Sequence) or isinstance(texts, str):
    raise schema.ConfigError(
      f'{model}: generate gave {texts!r:.80}: expected a list of {len(prompts)} texts'
    )
  texts = list(texts)
  _check_count(model, 'generate', texts, prompts)
  for prompt, text in zip(prompts, texts):
    if not isinstance(text, str):
      raise _wrong(model, 'generate', prompt, text, 'a text')
  return texts


def choose(
  model: Asked, prompts: Sequence[str], options: Sequence[Sequence[str]]
) -> list[list[float]]:
  """N rows of log-probabilities; raises ConfigError where they are not that."""
  rows = list(model.backend.choose(prompts, options))
  _check_count(model, 'choose', rows, prompts)
  found = []
  for prompt, row, names in zip(prompts, rows, options):
    try:
      numbers = [float(x) for x in row]
    except (TypeError, ValueError):
      numbers = []
    if len(numbers) != len(names) or not all(map(math.isfinite, numbers)):
      wanted = f'{len(names)} finite log-probabilities, one for each option'
      raise _wrong(model, 'choose', prompt, row, wanted)
    found.append(numbers)
  return found


def _check_count(
  model: Asked, method: str, found: Sequence[Any], prompts: Sequence[str]
) -> None:
  if len(found) != len(prompts):
    raise schema.ConfigError(
      f'{model.origin["name"]}.{method}: {len(found)} answers to {len(prompts)} '
      'prompts; it must give one to each, in their order'
    )


def _wrong(
  model: Asked, method: str, prompt: str, found: Any, wanted: str
) -> schema.ConfigError:
  return schema.ConfigError(
    f'{model.origin["name"]}.{method}: to the prompt {prompt[:60]!r} it gave '
    f'{repr(found)[:80]} ({type(found).__name__}); it must be {wanted}'
  )
