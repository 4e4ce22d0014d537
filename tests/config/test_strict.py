"""Sections: values within the bounds are kept as they are, all others refused."""

import dataclasses
import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from coupling.config import bounds, paper_schema, schema, strict, validate

KINDS = (
  *(schema.Length, schema.Pretrain, schema.Import, schema.Trained, schema.Behavior),
  *(schema.Label, schema.Train, schema.Evaluate, schema.Patch, schema.Mesh),
  *(schema.Report, schema.Model, schema.Optimizer, schema.Loop, schema.Lora),
  *(schema.ExplanationXent, schema.BehaviorKL, schema.DPO, paper_schema.Study),
)
JUNK = (None, True, 'word', '1', -7, 0, 3, 2.5, -2.5, [], ['word'], [True], {}, {1, 2})
TINY, HUGE = (float(getattr(np.finfo(np.float32), x)) for x in ('tiny', 'max'))


def sections(kind):
  """Instances with all that the types of their fields allow."""
  fields = {f.name: values(f.type) for f in dataclasses.fields(kind)}
  return st.builds(kind, **fields)


def values(kind):
  if dataclasses.is_dataclass(kind):
    return sections(kind)
  return st.from_type(kind).filter(fits)


def fits(x):
  """Whether float32 has such a number, and not 1 for one below."""
  if isinstance(x, tuple):
    return all(map(fits, x))
  if not isinstance(x, float):
    return True
  return x in (0, 1) or (TINY <= abs(x) <= HUGE and abs(x - 1) > 1e-7)


def read(kind, given):
  problems = []
  found = strict.read(kind, given, 'here', problems)
  assert (found is None) == bool(problems)
  return found, problems


few = hypothesis.settings(
  max_examples=5,
  deadline=None,
  suppress_health_check=[
    hypothesis.HealthCheck.filter_too_much,
    hypothesis.HealthCheck.too_slow,
  ],
)


@pytest.mark.parametrize('kind', KINDS)
@few
@hypothesis.given(data=st.data())
def test_a_section_comes_back_from_its_manifest(kind, data):
  given = data.draw(sections(kind))
  manifest = json.dumps(dataclasses.asdict(given))
  found = validate.section(kind, json.loads(manifest), 'here')
  assert found == given and hash(found) == hash(given)
  assert repr(found) == repr(given)  # 1 is not 1.0


@pytest.mark.parametrize('kind', KINDS)
@few
@hypothesis.given(data=st.data())
def test_other_values_are_refused_by_their_field_and_nothing_is_converted(kind, data):
  right = dataclasses.asdict(data.draw(sections(kind)))
  field = data.draw(st.sampled_from(sorted(right)))
  refused = 0
  for junk in JUNK:
    found, problems = read(kind, right | {field: junk})
    refused += found is None
    assert all(x.startswith(f'here.{field}') for x in problems), problems
    if found and isinstance(junk, int | float | str | None):
      kept = getattr(found, field)
      assert kept == junk
      assert type(kept) is type(junk) or (type(kept), type(junk)) == (float, int)
  assert refused
  [problem] = read(kind, right | {f'{field}s': 0})[1]
  assert problem.startswith(f'here.{field}s: ') and field in problem


@pytest.mark.parametrize(
  ('kind', 'within', 'beyond'),
  [
    (bounds.Natural, (0, bounds.MOST), (-1, bounds.MOST + 1, 10**30)),
    (bounds.Count, (1, bounds.MOST), (0, bounds.MOST + 1)),
    (bounds.Axis, (-1, 1, 8), (0, -2)),
    (bounds.Finite, (0.0, -3.5), (np.inf, -np.inf, np.nan, 1e39, 1e-50, 1e-40)),
    (bounds.Positive, (1e-30, 5), (0.0, -1e-3, np.inf, np.nan, 1e39, 1e-40)),
    (bounds.NotNegative, (0.0, 1e30), (-0.1, np.inf, np.nan, 1e-50)),
    (bounds.Share, (0.0, 0.5, 1.0), (-0.1, 1.5, np.nan, 1e-50)),
    (bounds.Decay, (0.0, 0.999), (1.0, -0.1, np.nan, 0.99999999999)),
    (bounds.Clip, (0.5, 1e9), (0.0, -1.0, np.nan, np.inf, 1e-50)),
    (tuple[bounds.Natural, ...], ((), (0, 7), [3]), ((1, 10**30), (-1,), 3, (1.0,))),
  ],
)
def test_bounds_hold_in_float32_and_int32(kind, within, beyond):
  for x in within:
    found, _ = read(kind, x)
    assert found == x or found == tuple(x)
  for x in beyond:
    [problem] = read(kind, x)[1]
    assert problem.startswith('here')


def test_half_a_character_is_refused_by_its_field():
  halves = {'checkpoint': 'a\ud800', 'system': 'whole', '\udc00': ''}
  one, other = read(schema.Import, halves)[1]
  assert one.startswith('here.checkpoint=') and other.startswith('here=')


def test_all_problems_are_listed_with_their_fields():
  lora = {'rank': -1, 'targets': ('q', 2), 'layer': 0}
  _, problems = read(
    schema.Train, {'seed': '1', 'lora': lora, 'loop': {}, 'optimizer': 3}
  )
  assert {x.partition(':')[0] for x in problems} == {
    "here.seed='1'",
    'here.lora.layer',
    'here.lora.rank=-1',
    'here.lora.targets[1]=2',
    'here.loop.steps',
    'here.loop.checkpoint_every',
    'here.optimizer=3',
  }
  [unknown] = [x for x in problems if 'layer:' in x]
  assert all(field in unknown for field in ('rank', 'alpha', 'targets', 'layers'))
