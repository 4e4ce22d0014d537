"""Greedy decoding against a loop that recomputes everything for every token."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coupling.model import decoder, generate, sharding, speculative
from coupling.model.architecture import DecoderConfig
from data import trees
from tests import command
from tests.small_checkpoints import MESH

B, T, V, G, FILL = 4, 5, 14, 6, 12
GROUPED = DecoderConfig(
  vocab_size=V,
  width=16,
  depth=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  mlp_dim=16,
  rope_theta=20.0,
)
LEARNED = dataclasses.replace(
  GROUPED, num_kv_heads=4, learned_positions=T + G, scan_layers=False
)
# Unpadded, left-padded, right-padded, and padded on both sides.
VALID_BxT = np.array(
  [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 1, 0]]
).astype(bool)
TOKENS_BxT = np.random.default_rng(3).integers(V, size=(B, T))


@functools.cache
def params_of(config):
  rng = np.random.default_rng(1)

  def draw(path, x):
    return jnp.asarray((path[-1].key == 'scale') + 0.7 * rng.normal(size=x.shape))

  params = jax.tree_util.tree_map_with_path(draw, decoder.abstract(config))
  return jax.tree.map(lambda x: x.astype(jnp.float32), params)


@functools.partial(jax.jit, static_argnums=0)
def next_token(config, params, tokens_1xS, length):
  valid_1xS = jnp.arange(T + G)[None] < length
  hidden_1xSxD = decoder.apply(config, params, tokens_1xS, valid_1xS).hidden_BxCxD
  return jnp.argmax(decoder.unembed(config, params, hidden_1xSxD[0, length - 1]))


@functools.cache
def naive(config):
  """Row by row, without padding in the way and without a cache."""
  rows = []
  for tokens_T, valid_T in zip(TOKENS_BxT, VALID_BxT):
    text = list(tokens_T[valid_T])
    for _ in range(G):
      padded_1xS = np.array([text + [0] * (T + G - len(text))])
      text.append(int(next_token(config, params_of(config), padded_1xS, len(text))))
    rows.append(text[-G:])
  return np.array(rows)


@functools.partial(
  jax.jit, static_argnums=0, static_argnames=('max_new_tokens', 'end_tokens', 'fill')
)
def greedy(config, params, **options):
  begun, _ = generate.begin(
    config, params, generate.of_rows(TOKENS_BxT, VALID_BxT), MESH
  )
  return generate.greedy(config, params, begun, MESH, **options)


@pytest.mark.parametrize('config', [GROUPED, LEARNED], ids=['grouped', 'learned'])
def test_equals_the_naive_loop_wherever_the_padding_stands(config):
  generated_BxG = greedy(config, params_of(config), max_new_tokens=G)
  assert generated_BxG.dtype == jnp.int32
  np.testing.assert_array_equal(generated_BxG, naive(config))
  assert len({tuple(row) for row in naive(config)}) == B  # the prompts matter


def test_continues_one_branch_of_a_tree():
  """Branches before and after it, and what is read beside it."""
  texts = [list(map(int, row[kept])) for row, kept in zip(TOKENS_BxT, VALID_BxT)]
  groups = [[[*text, 1, 2], text, text[:2] + [3] * 4, [*text, 1]] for text in texts]
  found, places = trees.build(groups)
  last_B = np.array([place[1][-1] for place in places])
  other_Bx1 = np.array([[place[2][-1]] for place in places])

  @jax.jit
  def run(params):
    prompts = generate.in_trees(found.rows, last_B)
    begun, hidden_Bx1xD = generate.begin(GROUPED, params, prompts, MESH, other_Bx1)
    return generate.greedy(GROUPED, params, begun, MESH, max_new_tokens=G), hidden_Bx1xD

  generated_BxG, hidden_Bx1xD = run(params_of(GROUPED))
  np.testing.assert_array_equal(generated_BxG, naive(GROUPED))
  for b, group in enumerate(groups):
    alone = decoder.apply(GROUPED, params_of(GROUPED), np.array([group[2]]))
    np.testing.assert_allclose(
      hidden_Bx1xD[b, 0], alone.hidden_BxCxD[0, -1], rtol=1e-4, atol=1e-5
    )


def length_of(row_G, end_tokens):
  """Up to the first end token."""
  return next((g + 1 for g, x in enumerate(row_G) if x in end_tokens), G)


def cut(end_tokens, config=GROUPED):
  """The naive rows up to their first end token, then filled, and these lengths."""
  rows_BxG = naive(config)
  length_B = [length_of(row, end_tokens) for row in rows_BxG]
  return np.where(np.arange(G) < np.c_[length_B], rows_BxG, FILL), length_B


def test_end_tokens_stop_rows_one_by_one():
  rows_BxG = naive(GROUPED)
  end_tokens = (int(rows_BxG[0, 2]), int(rows_BxG[1, 0]))
  want_BxG, length_B = cut(end_tokens)
  assert len(set(length_B)) > 2 and 1 in length_B  # rows end at different times
  generated_BxG = greedy(
    GROUPED, params_of(GROUPED), max_new_tokens=G, end_tokens=end_tokens, fill=FILL
  )
  np.testing.assert_array_equal(generated_BxG, want_BxG)


@pytest.fixture
def calls(monkeypatch):
  """One entry for each pass of a model that is run, but for those of `naive`."""
  naive(GROUPED), naive(LEARNED)
  made, apply = [], decoder.apply

  def counted(*args, **kwargs):
    jax.debug.callback(lambda: made.append(1))
    return apply(*args, **kwargs)

  monkeypatch.setattr(decoder, 'apply', counted)
  return made


def test_stops_once_every_row_has_ended(calls):
  end_tokens = tuple({int(row[2]) for row in naive(GROUPED)})
  want_BxG, length_B = cut(end_tokens)
  assert 1 < max(length_B) < G

  @jax.jit
  def run(params, tokens_BxT):
    prompts = generate.of_rows(tokens_BxT, VALID_BxT)
    begun, _ = generate.begin(GROUPED, params, prompts, MESH)
    return generate.greedy(
      *(GROUPED, params, begun, MESH),
      max_new_tokens=G,
      end_tokens=end_tokens,
      fill=FILL,
    )

  generated_BxG = run(params_of(GROUPED), TOKENS_BxT)
  jax.block_until_ready(generated_BxG)
  jax.effects_barrier()
  assert len(calls) == max(length_B)
  np.testing.assert_array_equal(generated_BxG, want_BxG)


def test_one_new_token():
  generated_Bx1 = greedy(GROUPED, params_of(GROUPED), max_new_tokens=1)
  np.testing.assert_array_equal(generated_Bx1, naive(GROUPED)[:, :1])


def drafted(config, expected, end_tokens, mesh=MESH):
  @jax.jit
  @sharding.on(mesh)
  def run(params, tokens_BxT, valid_BxT, expected):
    prompts = generate.of_rows(tokens_BxT, valid_BxT)
    begun, _ = generate.begin(config, params, prompts, mesh)
    return speculative.greedy_from_drafts(
      *(config, params, begun, expected, mesh), end_tokens=end_tokens, fill=FILL
    )

  rows = sharding.put_batch(mesh, (TOKENS_BxT, VALID_BxT, expected))
  return run(sharding.put_params(mesh, params_of(config)), *rows)


@pytest.mark.parametrize(
  'config, ended, unexpected',
  [
    *((GROUPED, True, x) for x in ((), (2,), (0, 1, 2, 3))),
    *((GROUPED, False, (2,)), (LEARNED, False, ()), (LEARNED, True, (2,))),
  ],
)
def test_drafts_are_read_at_once_and_only_others_are_generated(
  calls, config, ended, unexpected
):
  rows_BxG = naive(config)
  end_tokens = (int(rows_BxG[0, 2]), int(rows_BxG[1, 0])) if ended else ()
  rows_BxG, length_B = cut(end_tokens, config)
  # Something that parts from what is said in the end, that itself, something else,
  # nothing; and where there are ends, something that ends where that goes on.
  draft_BxMxG = np.stack([rows_BxG] * 5, axis=1)
  draft_BxMxG[:, 3:] = -1
  for b, length in enumerate(length_B):
    draft_BxMxG[b, 0, length - 1] = (rows_BxG[b, length - 1] + 1) % V
    draft_BxMxG[b, 1, length:] = 3  # what fills a draft up does not matter
    draft_BxMxG[b, 2, 0] = (rows_BxG[b, 0] + 2) % V
    if ended and length > 1:
      other = end_tokens[int(rows_BxG[b, 1] == end_tokens[0])]
      draft_BxMxG[b, 4] = [rows_BxG[b, 0], other, *[0] * (G - 2)]
  draft_BxMxG[list(unexpected), 1] = draft_BxMxG[list(unexpected), 2]
  expected = speculative.make_drafts(draft_BxMxG.astype(np.int32), end_tokens)
  assert expected.forest.tokens.shape[1] < 3 * (G - 1)  # they share what they can

  generated_BxG, after_BxMxFxD = drafted(config, expected, end_tokens)
  jax.block_until_ready(generated_BxG)
  jax.effects_barrier()
  np.testing.assert_array_equal(generated_BxG, rows_BxG)
  # Rows that are drafts keep none waiting.
  assert len(calls) == 2 + max([length_B[b] - 1 for b in unexpected], default=0)
  for b, text in enumerate(TOKENS_BxT):
    for draft_G, after_FxD in zip(draft_BxMxG[b, :3], after_BxMxFxD[b]):
      read = draft_G[: length_of(draft_G, end_tokens) - 1]
      whole = np.r_[text[VALID_BxT[b]], read][None]
      alone = decoder.apply(config, params_of(config), whole).hidden_BxCxD[0]
      np.testing.assert_allclose(
        after_FxD[: len(read)], alone[len(alone) - len(read) :], rtol=1e-4, atol=1e-5
      )


@pytest.mark.parametrize('tokens', [1, 2])
def test_one_token_or_two_are_generated_whatever_the_drafts(tokens):
  want_BxG = naive(GROUPED)[:, :tokens]
  expected = speculative.make_drafts(
    np.stack([want_BxG + 1, want_BxG + 2], axis=1) % V, ()
  )
  generated_BxG, after_BxMxFxD = drafted(GROUPED, expected, ())
  np.testing.assert_array_equal(generated_BxG, want_BxG)
  assert after_BxMxFxD.shape == (B, 2, tokens - 1, GROUPED.width)


_ON_DEVICES = """
import jax, numpy as np
from coupling.config import schema
from coupling.model import sharding, speculative
from tests.model import test_generate as t
assert jax.device_count() == 4
want_BxG = t.naive(t.GROUPED)
other_BxG = (want_BxG + 1) % t.V
for axes in (dict(data=2, fsdp=2, tensor=1), dict(data=2, fsdp=1, tensor=2)):
  mesh = sharding.make_mesh(schema.Mesh(**axes))
  for known in (want_BxG, np.concatenate([want_BxG[:3], other_BxG[3:]])):
    drafts = np.stack([other_BxG, known], axis=1).astype(np.int32)
    found_BxG, _ = t.drafted(t.GROUPED, speculative.make_drafts(drafts, ()), (), mesh)
    np.testing.assert_array_equal(found_BxG, want_BxG)
"""


def test_rows_on_several_devices_go_on_together():
  """What one row says lets all be generated, wherever they lie."""
  command.on_devices(4, _ON_DEVICES)
