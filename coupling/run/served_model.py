"""M_0 that is served: what is known of it, and that it is still the one it was."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import tempfile
from typing import Any

from coupling.config import schema
from coupling.config import section_rules
from coupling.config import validate
from coupling.elicit import backend
from coupling.elicit import endpoint
from coupling.elicit import models
from coupling.elicit import served_answers
from coupling.run import context
from coupling.runtime import distributed
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from coupling.runtime.answer_log import AnswerLog
from data import pairs as pairs_lib

ANSWERS = 'answers.jsonl'  # of a seed, beside its stages
PROBED = 'probed'  # what the server said of itself when answers were first kept


def fingerprint(base: schema.Served) -> str:
  """SHA-256 of what is sent of a question, beside its text."""
  sent = (base.model, base.system, base.completions, base.thoughts)
  return hashlib.sha256(json.dumps(['served', *sent]).encode()).hexdigest()


@functools.lru_cache
def seen(base: schema.Served) -> dict[str, Any]:
  """What a server says of itself, asked once by each process: `listed`, `probe`.

  Raises:
    ConfigError: it cannot be reached, lacks the model, or does not answer.
  """
  asked = endpoint.Endpoint(base)
  return {'listed': asked.listed(), 'probe': asked.probe()}


def model(base: schema.Served, answers: pathlib.Path) -> backend.Asked:
  """The model at an endpoint; `answers`: the file that keeps what it answers.

  Raises:
    ConfigError: see `seen`.
    WorkdirError: the file cannot be read, or holds the answers of another model.
  """
  origin = {'name': f'{base.model} at {base.url}', 'kind': 'OpenAI-compatible API'}
  sent = dataclasses.asdict(base)
  origin |= {k: x for k, x in sent.items() if k not in context.SERVING}
  log, now = AnswerLog(answers), seen(base)
  if PROBED not in log:
    log.keep(PROBED, now)
  _check_same(f'{answers}: move it away to ask anew', base, log[PROBED], now)
  return backend.Asked(endpoint.Endpoint(base, log), origin | now, section=base)


def _check_same(
  where: str, base: schema.Served, then: dict[str, Any], now: dict[str, Any]
) -> None:
  """Raises WorkdirError where most of the answers to PROBES are others than before."""
  same = sum(x == y for x, y in zip(then['probe'], now['probe']))
  if same < len(endpoint.PROBES) / 2:
    raise workdir_lib.WorkdirError(
      f'{where}: base.url={base.url} answers {now["probe"]} to {endpoint.PROBES} now, '
      f'and answered {then["probe"]} before: another model is served there under the '
      'same name, or answers are drawn at random. Serve the same again, or use another '
      '--workdir or answers=.'
    )


def load(
  url: str, answers: str | pathlib.Path, others: dict[str, Any], **fields: Any
) -> backend.Asked:
  """For the API: the model at a URL.

  Args:
    url: of the endpoint.
    answers: file that keeps what it answers; '': a new one.
    others: arguments of `load` that are of checkpoints alone.
    **fields: of schema.Served.

  Raises:
    ConfigError: fields that are unknown or wrong; see also `seen`.
    WorkdirError: the file cannot be read.
  """
  if wrong := [name for name, value in others.items() if value not in (None, '')]:
    raise schema.ConfigError(
      f'load: {", ".join(wrong)}: not for a URL; leave out (completions=True asks '
      'without a chat)'
    )
  section = validate.section(schema.Served, {'url': url} | fields, 'load')
  schema.ConfigError.refuse(section_rules.served_problems('load', section))
  seen.cache_clear()  # it may be another one by now
  if not answers:
    answers = pathlib.Path(tempfile.mkdtemp(prefix='coupling-')) / ANSWERS
    progress.line(f'answers are kept in {answers}: load(..., answers=it) goes on there')
  return model(section, pathlib.Path(answers).expanduser())


def of_seed(e: schema.Experiment, workdir: pathlib.Path, seed: int) -> backend.Asked:
  """The model of an experiment.

  Raises:
    ConfigError: see `seen`.
    WorkdirError: another one answers there than when the base stage was made.
  """
  root = workdir / f'seed{seed}'
  then = workdir_lib.finished_stage(root / 'base').info()
  _check_same(str(root / 'base'), e.base, then, seen(e.base))
  return model(e.base, root / ANSWERS)


def problems(e: schema.Experiment, questions: pairs_lib.Questions) -> list[str]:
  """What of an experiment a server cannot do, or it does not answer."""
  name, replies = f'base.url={e.base.url}', questions.detect is not None
  found = backend.problems(name, True, e.behavior, e.label, replies)
  found += [NO_LIKELIHOOD] if e.evaluate.likelihood else []
  if e.base.thoughts and not replies and e.behavior.read == 'first_token':
    found.append(
      f'base.thoughts={e.base.thoughts}: the first token of an answer is then of a '
      'thought; set behavior.read to reply, or switch thinking off at the server'
    )
  if distributed.several():
    found.append(f'base.url={e.base.url}: one process asks; leave out --distributed')
  try:
    seen(e.base)
  except schema.ConfigError as error:
    found.append(f'base: {error}')
  return found


NO_LIKELIHOOD = (
  'evaluate.likelihood=True: a backend does not give the likelihood of whole '
  'statements; set it to False'
)


def asked(model: Any) -> models.Model | backend.Asked:
  """A model of `load`, or a Python object as one; ConfigError where it is neither."""
  known = isinstance(model, models.Model | backend.Asked)
  return model if known else backend.asked(model)


def api_problems(
  model: models.Model | backend.Asked,
  behavior: schema.Behavior,
  label: schema.Label,
  template: pairs_lib.Questions,
) -> list[str]:
  """Ways of reading behaviours that a model of the API does not have."""
  if not isinstance(model, backend.Asked):
    return []
  name, chooses = model.origin['name'], backend.can_choose(model)
  replies = template.detect is not None
  return backend.problems(name, chooses, behavior, label, replies)


def likelihood_problems(
  model: models.Model | backend.Asked, config: schema.Evaluate
) -> list[str]:
  """A likelihood that a backend does not give."""
  wanted = isinstance(model, backend.Asked) and config.likelihood
  return [NO_LIKELIHOOD] if wanted else []


def behavior(model: backend.Asked, pairs) -> schema.Behavior:
  """How choices are read where nothing is said: by `choose`, or from replies.

  At an endpoint only letters can be chosen.
  """
  letters = all(served_answers.are_letters(pair.options) for pair in pairs)
  served = isinstance(model.backend, endpoint.Endpoint)
  if backend.can_choose(model) and (letters or not served):
    return schema.Behavior()
  return schema.Behavior(read='reply')
