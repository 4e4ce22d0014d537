"""Patching: exact where it must be, the same as hooks on PyTorch, a known circuit."""

import dataclasses

import jax
import numpy as np
import pytest
import torch

from coupling.config import schema
from coupling.model import decoder
from coupling.model import lora
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.model.sites import SITES
from coupling.patching import aligned_prompts
from coupling.patching import chunks as chunks_lib
from coupling.patching import engine
from coupling.patching import patched_runs
from coupling.run import patch_stage
from coupling.statistics import effect_maps
from coupling.statistics.effect_maps import EVERY_HEAD, Site
from data import loader
from data import positions
from tests import command
from tests import small_checkpoints

MESH = sharding.make_mesh(schema.Mesh(fsdp=1), jax.devices()[:1])
END = 7
HOW = dict(batch=4, at_once=5, mesh=MESH, end_tokens=(END,))
# Group of each token; two pairs of different lengths, which differ in tokens 2 and 3.
GROUPS = (
  (*('template', 'question', 'hint_source', 'hinted_option'), 'instruction', 'answer'),
  (*('question', 'question', 'hint_source', 'hinted_option'), 'answer'),
)


def asked(vocabulary: int, G: int = 3) -> aligned_prompts.Asked:
  """Prompts of both kinds of pairs, with answers of G tokens at most."""
  rng = np.random.default_rng(0)
  prompts, answers = [], []
  for groups in GROUPS * 2:
    own = rng.integers(8, vocabulary, len(groups))
    other = own.copy()
    other[2:4] += 1 - 2 * (other[2:4] > vocabulary // 2)
    codes = np.array([positions.CODES[name] for name in groups], np.int8)
    prompts.append((own.tolist(), other.tolist(), codes))
    answers.append(rng.integers(8, vocabulary, (2, G)))
  answers_Nx2xG = np.array(answers)
  if G > 1:
    answers_Nx2xG[:, 1, 1:] = [END, 0]  # the second statement ends early
  return aligned_prompts.asked(prompts, answers_Nx2xG, 0, (END,))


def tokens_of(asked, n, k, j):
  """Prompt k of pair n and its answer j, without padding or what follows an end."""
  x = asked.arrays
  prompt = x['tokens'][n, k][x['valid'][n]].tolist()
  answer = x['answers'][n, j].tolist()
  if END in answer:
    answer = answer[: answer.index(END) + 1]
  return prompt, answer


def torch_contrast(model, asked, n, k, edit=lambda prompt, answer: ()):
  """d of one prompt, token by token; `edit` makes hooks for one sequence."""
  d = []
  for j in (0, 1):
    prompt, answer = tokens_of(asked, n, k, j)
    hooks = edit(prompt, answer)
    ids = torch.tensor([prompt + answer[:-1]])
    with torch.no_grad():
      logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
    for hook in hooks:
      hook.remove()
    read = logprobs[len(prompt) - 1 :]
    d.append(sum(float(read[i, token]) for i, token in enumerate(answer)))
  return d[0] - d[1]


def torch_inputs(layers):
  return {
    'residual': [(x, True) for x in layers],
    'heads': [(x.self_attn.o_proj, True) for x in layers],
  }


def torch_sites(model):
  """Site -> layer -> module whose input (True) or output it is."""
  layers = model.model.layers
  if not hasattr(layers[0], 'input_layernorm'):  # what norms make of them is added
    return torch_inputs(layers) | {
      'attention_out': [(x.post_attention_layernorm, False) for x in layers],
      'mlp_out': [(x.post_feedforward_layernorm, False) for x in layers],
    }
  return torch_inputs(layers) | {
    'attention_out': [(x.self_attn, False) for x in layers],
    'mlp_out': [(x.mlp, False) for x in layers],
  }


def torch_hook(module, before, change):
  """A hook that puts change(activation) in the activation's place."""

  def pre(_, args, kwargs):
    return (change(args[0]), *args[1:]), kwargs

  def post(_, __, out):
    return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

  if before:
    return module.register_forward_pre_hook(pre, with_kwargs=True)
  return module.register_forward_hook(post)


def torch_patched(model, asked, n, sites, head_dim):
  """d on x with some sites replaced by their values on x', by hooks."""

  def edit(prompt, answer):
    other = tokens_of(asked, n, 1, 0)[0] + answer[:-1]
    names = np.array([*GROUPS[n % 2], *['answer'] * (len(answer) - 1)])
    kept = {}

    def keep(site):
      module, before = torch_sites(model)[site.kind][site.layer]
      return torch_hook(module, before, lambda x: kept.setdefault(site, x.clone()))

    def put(site):
      module, before = torch_sites(model)[site.kind][site.layer]
      at = np.flatnonzero(names == site.group)
      part = slice(None)
      if site.head != EVERY_HEAD:
        part = slice(site.head * head_dim, (site.head + 1) * head_dim)

      def change(x):
        x = x.clone()
        x[:, at, part] = kept[site][:, at, part]
        return x

      return torch_hook(module, before, change)

    hooks = [keep(site) for site in sites]
    with torch.no_grad():
      model(input_ids=torch.tensor([other]))
    for hook in hooks:
      hook.remove()
    return [put(site) for site in sites]

  return torch_contrast(model, asked, n, 0, edit)


@pytest.mark.parametrize(
  'family, G, scan',
  [
    ('llama', 3, False),
    ('qwen3', 3, True),
    ('qwen3', 1, False),
    ('olmo3', 1, True),
    ('qwen3_moe', 1, True),
  ],
)
def test_every_site_is_what_hooks_on_pytorch_make_it(family, G, scan):
  folder, model = small_checkpoints.saved(family)
  config, params = small_checkpoints.imported(folder)
  config = dataclasses.replace(config, scan_layers=scan)
  a = asked(small_checkpoints.VOCABULARY, G)
  found = engine.maps(config, params, a, **HOW)
  N = len(found.clean_N)
  for k, values_N in enumerate((found.clean_N, found.other_N)):
    want = [torch_contrast(model, a, n, k) for n in range(N)]
    np.testing.assert_allclose(values_N, want, atol=2e-4)
  moved = 0
  for r, site in enumerate(engine.sites(config)):
    for n in (0, 1):
      want = torch_patched(model, a, n, [site], config.head_dim)
      assert found.patched_NxR[n, r] == pytest.approx(want, abs=3e-4), (site, n)
      moved += abs(want - found.clean_N[n]) > 1e-2
  assert moved > 50  # it is not that nothing happens


def test_sites_replaced_together_are_what_hooks_make_them():
  folder, model = small_checkpoints.saved('llama')
  config, params = small_checkpoints.imported(folder)
  a = asked(small_checkpoints.VOCABULARY)
  rng = np.random.default_rng(0)
  live = [x for x in engine.sites(config) if not engine.inert(config, a, x)]
  sets = [tuple(live[i] for i in rng.choice(len(live), 3, False)) for _ in range(24)]
  assert len({min(site.layer for site in chosen) for chosen in sets}) > 1
  found = engine.effects(config, params, a, sets, **HOW)
  for r, chosen in enumerate(sets):
    for n in (0, 1):
      want = torch_patched(model, a, n, chosen, config.head_dim)
      assert found.patched_NxR[n, r] == pytest.approx(want, abs=3e-4), (chosen, n)


def model_of(family):
  return small_checkpoints.imported(small_checkpoints.saved(family)[0])


@pytest.mark.parametrize('family', [*small_checkpoints.CONFIGS])
def test_patching_nothing_and_patching_everything(family):
  config, params = model_of(family)
  a = asked(small_checkpoints.VOCABULARY)
  every = tuple(engine.sites(config))
  first = tuple(x for x in every if x.kind == 'residual' and x.layer == 0)
  found = engine.effects(config, params, a, [(), every, first], **HOW)
  np.testing.assert_array_equal(found.patched_NxR[:, 0], found.clean_N)
  scale = np.abs(found.whole_N).max()
  for row in (1, 2):
    np.testing.assert_allclose(
      found.patched_NxR[:, row], found.other_N, atol=1e-5 * scale
    )
  assert scale > 0.1


def test_sites_that_are_left_out_change_nothing_by_themselves():
  config, params = model_of('gemma3')
  a = asked(small_checkpoints.VOCABULARY)
  sites = [(x,) for x in engine.sites(config) if engine.inert(config, a, x)]
  groups = {site.group for (site,) in sites}
  assert {'template', 'question', 'options'} <= groups and len(sites) > 20
  found = engine.effects(config, params, a, sites, **HOW)
  want_NxR = np.repeat(found.clean_N[:, None], len(sites), axis=1)
  np.testing.assert_allclose(found.patched_NxR, want_NxR, atol=1e-4)


def test_layers_below_are_not_needed(monkeypatch):
  """With fewer places to start from, and unrolled, the same comes out."""
  config, params = model_of('gemma3')
  a = asked(small_checkpoints.VOCABULARY)
  want = engine.maps(config, params, a, **HOW)
  for starts, scan in ((1, True), (2, False)):
    monkeypatch.setattr(chunks_lib, 'STARTS', starts)
    config = dataclasses.replace(config, scan_layers=scan)
    found = engine.maps(config, params, a, **HOW | dict(batch=3, at_once=7))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), found, want)


@pytest.mark.parametrize('scan', [True, False])
def test_what_is_known_or_not_read_is_not_computed(scan):
  """Products of a program, where one column is patched, and where most are."""
  config, params = model_of('qwen3')
  config = dataclasses.replace(config, scan_layers=scan)
  a = asked(small_checkpoints.VOCABULARY, 1)
  rows = next(iter(loader.batches(a.arrays, 4)))[0]
  begun, _ = patched_runs.begin(config, MESH, a.prefix, (END,))(params, rows)

  def products(first, chunk, at_BxK):
    chosen = chunks_lib.masks(config, [()], chunk)
    run = patched_runs.patched(config, MESH, first, 0, 1, (END,))
    done = run.lower(params, rows, begun, begun.other, chosen, at_BxK).compile()
    return done.cost_analysis()['flops']

  chunk = chunks_lib.Chunk(0, 0, True, [0], (), 0)
  all_three = products(0, chunk, None)
  of_one, of_most, of_none = (
    products(2, chunk._replace(first=2), np.zeros((4, 1), np.int32)),
    products(2, chunk._replace(first=2), None),
    products(3, chunk._replace(first=3), None),
  )
  assert of_none < of_one < of_most
  assert scan or of_most < 0.8 * all_three  # layers of a scan count as one


@pytest.mark.parametrize('depth', [1, 8, 9, 40])
def test_programs_are_few(depth):
  """However deep the model, and however many groups."""
  config = dataclasses.replace(model_of('qwen3')[0], depth=depth)
  a = asked(small_checkpoints.VOCABULARY)
  sets = [(x,) for x in engine.sites(config) if not engine.inert(config, a, x)]
  chunks = chunks_lib.make(config, a, [*sets, *[tuple(x[0] for x in sets[:9])] * 5], 8)
  assert sorted({row for x in chunks for row in x.rows}) == [*range(len(sets) + 5)]
  programs = {(x.first, x.column, x.before, len(x.rows), x.width) for x in chunks}
  # Begun at a layer; there, at the answer, with few columns patched, or with many.
  assert len(programs) <= 3 * (chunks_lib.STARTS + 1) + 1


def test_adapters_are_patched_as_their_merged_weights():
  """Those of the upper layers."""
  config, params = model_of('qwen3')
  adapters = lora.init(config, rank=2, alpha=4.0, first=1, seed=0)
  draw = np.random.default_rng(0)
  weights = jax.tree.map(
    lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), adapters.weights
  )
  adapters = dataclasses.replace(adapters, weights=weights)
  a = asked(small_checkpoints.VOCABULARY)
  found = engine.maps(config, params | {decoder.ADAPTERS: adapters}, a, **HOW)
  want = engine.maps(config, lora.merge(params, adapters), a, **HOW)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=3e-4), found, want)


def test_means_are_those_of_the_tokens_of_each_group():
  config, params = model_of('qwen3')
  a = asked(small_checkpoints.VOCABULARY)
  how = {k: x for k, x in HOW.items() if k != 'at_once'} | dict(batch=3)
  found = engine.means(config, params, a, **how)
  kept = {}
  for n in range(4):
    for k in (0, 1):
      prompt, _ = tokens_of(a, n, k, 0)
      read = decoder.apply(config, params, np.array([prompt]), read=SITES)
      at = GROUPS[n % 2].index('hinted_option')
      for site, x in read.activations.items():
        kept.setdefault(site, []).append(np.asarray(x[:, 0, at]))
  code = positions.CODES['hinted_option']
  for site, values in kept.items():
    want = np.mean(values, axis=0)
    np.testing.assert_allclose(found[site][:, code], want, atol=1e-5)
    assert not found[site][:, positions.CODES['options']].any()
  site = Site('mlp_out', 0, 'hinted_option', EVERY_HEAD)
  replaced = engine.effects(config, params, a, [(site,)], means=found, **HOW)
  assert np.all(np.abs(replaced.moved_NxR) > 1e-4)


TOY = DecoderConfig(
  vocab_size=24,
  width=24,
  depth=3,
  num_heads=2,
  num_kv_heads=2,
  head_dim=24,
  mlp_dim=4,
  tied_head=False,
)


def toy():
  """Heads that copy: layer 0's head 1 what was read before, layer 2's head 0 nothing.

  Tokens are unit vectors. Queries are 0, so that every head looks at all tokens alike;
  only head 1 of layer 0 writes, the mean of what it sees, which the head reads.
  """
  params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), decoder.abstract(TOY))
  eye = np.eye(24, dtype=np.float32)
  params['embed']['embedding'] = eye.copy()
  params['head']['kernel'] = 30 * eye
  for norm in ('attention_norm', 'mlp_norm'):
    params['layers'][norm]['scale'][:] = 1
  params['final_norm']['scale'][:] = 1
  attention = params['layers']['attention']
  attention['v']['kernel'][:] = np.concatenate([eye, eye], axis=1)
  attention['out']['kernel'][0, 24:] = eye
  return params


def test_the_sites_of_a_known_circuit_come_out_and_no_others():
  a = asked(TOY.vocab_size, G=1)
  x = a.arrays
  for n in range(4):
    first = x['valid'][n].argmax()
    x['tokens'][n, :, first:] = 14 + np.arange(x['tokens'].shape[2] - first)
    # The answers are the hints, own and moved; the sources are no answer.
    x['tokens'][n, :, first + 2] = [8, 9]
    x['tokens'][n, :, first + 3] = x['answers'][n, :, 0] = [12, 13]
  found = engine.maps(TOY, toy(), a, **HOW)
  effects_R = effect_maps.effect([found])
  expected = {
    Site('residual', 0, 'hinted_option', EVERY_HEAD),
    Site('heads', 0, 'answer', 1),
    Site('attention_out', 0, 'answer', EVERY_HEAD),
    Site('residual', 1, 'answer', EVERY_HEAD),
    Site('residual', 2, 'answer', EVERY_HEAD),
  }
  out = {
    site
    for site, effect in zip(engine.sites(TOY), effects_R, strict=True)
    if abs(effect) > 0.02
  }
  assert out == expected
  for site in expected:
    effect = effects_R[engine.sites(TOY).index(site)]
    assert effect == pytest.approx(1, abs=0.05), site


def test_measure_knocks_out_the_top_and_counts_its_passes():
  config, params = model_of('qwen3')
  both = aligned_prompts.Contrasts(
    np.arange(4),
    [''] * 4,
    asked(small_checkpoints.VOCABULARY, 1),
    asked(small_checkpoints.VOCABULARY),
  )
  maps, passes = patch_stage.measure(config, params, both, draws=3, seed=0, **HOW)
  live = [
    sum(not engine.inert(config, x, site) for site in maps.sites) for x in both[2:]
  ]
  assert passes == 4 * (sum(live) + 10 + 4 * (3 + 4))
  among = effect_maps.compared(maps.sites, maps.live_R, effect_maps.COMPONENTS)
  assert len(maps.knocked_out) == 4
  k = effect_maps.top_count(len(among))
  for some in maps.knocked_out:
    assert len(set(some)) == k and set(some) <= set(among)
  assert not set(maps.knocked_out[0]) & set(np.concatenate(maps.knocked_out[1:]))
  assert maps.behavior_without.patched_NxR.shape == (4, 4)
  kinds = [sorted(maps.sites[i].kind for i in some) for some in maps.knocked_out]
  assert all(x == kinds[0] for x in kinds)
  for own, other in (
    (maps.behavior_without, maps.behavior_other_without),
    (maps.explanation_without, maps.explanation_other_without),
  ):
    np.testing.assert_allclose(own.clean_N, other.other_N, atol=1e-5)
    np.testing.assert_allclose(own.other_N, other.clean_N, atol=1e-5)
    assert np.any(np.abs(own.patched_NxR - other.patched_NxR) > 1e-3)


def test_where_answers_part_is_where_they_are_told_apart():
  """Two statements that begin alike, of which one ends before the other."""
  own, other = [9, 10, 11, 12], [9, 10, 13, 12]
  codes = np.array(
    [positions.CODES[x] for x in ('question', 'hinted_option', 'question', 'answer')]
  )
  answers_Nx2xG = np.array([[[20, 21, 22, END, 0], [20, 23, END, 0, 0]]])
  a = aligned_prompts.asked([(own, other, codes)], answers_Nx2xG, 0, (END,))
  names = [positions.GROUPS[code] for code in a.arrays['group'][0]]
  prompt, first, second = names[:-8], names[-8:-4], names[-4:]
  assert prompt == ['question', 'instruction']  # it predicts 20, which both say
  assert first == ['answer', 'answer', 'answer', 'template']
  assert second == ['answer', 'answer', 'template', 'template']
  assert a.live == {'question', 'instruction', 'answer'}
  np.testing.assert_array_equal(a.swapped.arrays['tokens'][0], [other, own])


_ON_DEVICES = """
import numpy as np, jax
from coupling.config import schema
from coupling.model import sharding
from coupling.patching import engine
from coupling.patching import patched_runs
from tests import small_checkpoints
from tests.patching import test_engine as t
assert jax.device_count() == 4
mesh = sharding.make_mesh(schema.Mesh(data=2, fsdp=2, tensor=1))
model = t.model_of('qwen3')
a = t.asked(small_checkpoints.VOCABULARY)
found = engine.maps(*model, a, **t.HOW | dict(mesh=mesh))
want = engine.maps(*model, a, **t.HOW)
jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), found, want)
mesh = sharding.make_mesh(schema.Mesh(data=1, fsdp=2, tensor=2))  # heads apart
begun, _ = patched_runs.begin(model[0], mesh, a.prefix, (t.END,))(
  jax.device_put(model[1], sharding.replicated(mesh)),
  sharding.put_batch(mesh, a.arrays))
for x in (*begun.other.values(), begun.prefix.k_LxBxKxHxS):
  assert x.sharding.shard_shape(x.shape)[1] == 2, x.sharding
for x in (*begun.prefix[:2], *begun.suffix[:2]):
  assert x.sharding.shard_shape(x.shape)[2] == x.shape[2] // 2, x.sharding
"""


def test_pairs_are_shared_out_over_devices():
  command.on_devices(4, _ON_DEVICES)
