"""The length of texts at which `transformers` would rotate by other factors."""

import dataclasses

import pytest

from coupling.config import schema
from coupling.model.architecture import DecoderConfig, RopeScaling
from coupling.run import asking_rules

MODEL = DecoderConfig(
  vocab_size=5,
  width=4,
  depth=1,
  num_heads=1,
  num_kv_heads=1,
  head_dim=2,
  mlp_dim=4,
  rope_scaling=RopeScaling(
    original_length=64, short_factors=(1.0,), long_factors=(2.0,)
  ),
)


@pytest.mark.parametrize(
  ('longest', 'long', 'remedy'),
  [
    (64, False, ''),
    (65, True, ''),
    (65, False, 'set base.long_context=True'),
    (64, True, 'leave base.long_context out'),
  ],
)
def test_one_set_of_factors_serves_all_texts_or_the_run_is_refused(
  longest, long, remedy
):
  model = dataclasses.replace(MODEL, long_context=long)
  found = asking_rules.position_problems(schema.Length(max_tokens=longest), model)
  assert len(found) == bool(remedy)
  for problem in found:
    assert problem.startswith(f'length.max_tokens={longest}') and remedy in problem
