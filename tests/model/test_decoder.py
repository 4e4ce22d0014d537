"""The decoder against an independent float64 reference, and its promises one by one."""

import dataclasses
import functools
import types

import jax
from jax._src.cudnn import fused_attention_stablehlo
import jax.numpy as jnp
import numpy as np
import pytest

from coupling.model import attention
from coupling.model import decoder
from coupling.model.architecture import DecoderConfig, RopeScaling
from coupling.model.sites import SITES, Patch

B, T, V = 3, 7, 11
LLAMA = DecoderConfig(  # grouped queries, gated SiLU, tied
  vocab_size=V,
  width=8,
  depth=3,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  mlp_dim=12,
  rope_theta=50.0,
  norm_eps=1e-2,
)
CONFIGS = {
  'llama': LLAMA,
  'world': dataclasses.replace(
    LLAMA,
    num_kv_heads=4,
    activation='relu',
    gated_mlp=False,
    learned_positions=T,
    depth=2,
  ),
  'qwen': dataclasses.replace(
    LLAMA,
    num_kv_heads=1,
    head_dim=6,
    qk_norm=True,
    tied_head=False,
    activation='gelu_tanh',
    qkv_bias=True,
  ),
  'mistral': dataclasses.replace(LLAMA, window=3),
  'llama3.1': dataclasses.replace(
    LLAMA, head_dim=8, rope_scaling=RopeScaling(factor=4.0, original_length=20)
  ),
  'gemma': dataclasses.replace(
    LLAMA,
    activation='gelu_tanh',
    qk_norm=True,
    post_norms=True,
    offset_norms=True,
    embedding_multiplier=8**0.5,
    attention_multiplier=9**-0.5,
    rope_scaling=RopeScaling(factor=2.0),
    window=3,
    full_layers=(1,),
    window_rope_theta=5.0,
  ),
}
CONFIGS['olmo'] = dataclasses.replace(
  CONFIGS['mistral'],
  qk_norm=True,
  joint_qk_norm=True,
  pre_norms=False,
  post_norms=True,
  full_layers=(1,),
  window_rope_theta=50.0,
  head_dim=8,
  rope_scaling=RopeScaling(
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=3.0,
    original_length=40,
    yarn=True,
    attention_factor=1.3,
  ),
)
CONFIGS['granite'] = dataclasses.replace(
  LLAMA,
  embedding_multiplier=2.0,
  residual_multiplier=0.3,
  attention_multiplier=0.4,
  logits_divisor=3.0,
)
CONFIGS['smollm3'] = dataclasses.replace(
  LLAMA, no_rope_layers=(1,), window=3, full_layers=(2,)
)  # three kinds of layers
CONFIGS['phi'] = dataclasses.replace(LLAMA, head_dim=8, rotary_dims=6)
CACHED = ('llama', 'mistral', 'gemma', 'olmo', 'smollm3')
VALID_BxT = np.array(
  [[1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]]
).astype(bool)
TOKENS_BxT = np.random.default_rng(0).integers(V, size=(B, T))


def random_params(config, seed=0):
  """Weights without special values: norms differ from 1, everything matters.

  Of this spread, a rounding of the weights to float32 moves no activation by half of
  the tolerances below; of 0.5 it moved some by twice them, and the CPU decided.
  """
  rng = np.random.default_rng(seed)

  def draw(path, x):
    center = float(path[-1].key == 'scale' and not config.offset_norms)
    return jnp.asarray(center + 0.4 * rng.normal(size=x.shape), x.dtype)

  return jax.tree_util.tree_map_with_path(draw, decoder.abstract(config))


@functools.partial(jax.jit, static_argnums=0)
def forward(config, params, tokens_BxT, valid_BxT, patch=None):
  out = decoder.apply(config, params, tokens_BxT, valid_BxT, read=SITES, patch=patch)
  return decoder.unembed(config, params, out.hidden_BxCxD), out.activations


# --- The reference: one unpadded sequence, loops over layers, heads and queries.


def norm64(x, scale, eps):
  return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * scale


def frequency64(theta, i, half, scaling):
  frequency = theta ** (-i / half)
  if scaling is None:
    return frequency
  if not scaling.original_length:
    return frequency / scaling.factor
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  if scaling.yarn:  # Peng et al. 2023, as transformers rounds it
    turns = lambda x: scaling.original_length * theta ** (-x / half) / (2 * np.pi)
    every = np.arange(2 * half)
    first = max((x for x in every if turns(x) >= high), default=0)
    last = min((x for x in every if turns(x) <= low), default=2 * half - 1)
    smooth = 1 - np.clip((i - first) / (last - first), 0, 1)
    return (1 - smooth) * frequency / scaling.factor + smooth * frequency
  wavelength = 2 * np.pi / frequency
  if wavelength < scaling.original_length / high:
    return frequency
  if wavelength > scaling.original_length / low:
    return frequency / scaling.factor
  smooth = (scaling.original_length / wavelength - low) / (high - low)
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency


def rotate64(x_TxH, theta, scaling, dims=0):
  half = (dims or x_TxH.shape[1]) // 2
  out_TxH = x_TxH.copy()
  for t, x_H in enumerate(x_TxH):
    for i in range(half):
      angle = t * frequency64(theta, i, half, scaling)
      pair = (x_H[i] + 1j * x_H[i + half]) * np.exp(1j * angle)
      pair *= 1 if scaling is None else scaling.attention_factor
      out_TxH[t, i], out_TxH[t, i + half] = pair.real, pair.imag
  return out_TxH


def act64(name, x):
  return {
    'relu': lambda: np.maximum(x, 0),
    'silu': lambda: x / (1 + np.exp(-x)),
    'gelu_tanh': lambda: (
      x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    ),
  }[name]()


def reference(c, params, tokens_T):
  """float64 logits [T, V] and the activations at every site, [L, T, ...]."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  T = len(tokens_T)

  def norm(x, weights):
    return norm64(x, weights['scale'] + c.offset_norms, c.norm_eps)

  x_TxD = p['embed']['embedding'][tokens_T]
  x_TxD = x_TxD * c.embedding_multiplier
  if c.learned_positions:
    x_TxD = x_TxD + p['position_embed']['embedding'][:T]
  sites = {name: [] for name in SITES}
  for depth in range(c.depth):
    w = jax.tree.map(lambda x, depth=depth: x[depth], p['layers'])
    slides = c.window and depth not in c.full_layers
    own_rope = slides and c.window_rope_theta
    rope = (c.window_rope_theta, None) if own_rope else (c.rope_theta, c.rope_scaling)
    sites['residual'].append(x_TxD)
    y_TxD = norm(x_TxD, w['attention_norm']) if c.pre_norms else x_TxD
    joint = {}
    for name in ('q', 'k'):
      if c.joint_qk_norm:
        every = y_TxD @ w['attention'][name]['kernel']
        joint[name] = norm(every, w['attention'][f'{name}_norm'])
    heads_TxNxH = np.zeros((T, c.num_heads, c.head_dim))
    for n in range(c.num_heads):
      shared = n // (c.num_heads // c.num_kv_heads)
      part = {}
      for name, head in (('q', n), ('k', shared), ('v', shared)):
        columns = slice(head * c.head_dim, (head + 1) * c.head_dim)
        linear = w['attention'][name]
        part[name] = y_TxD @ linear['kernel'][:, columns]
        if c.qkv_bias:
          part[name] = part[name] + linear['bias'][columns]
      for name in ('q', 'k'):
        if c.joint_qk_norm:
          head = n if name == 'q' else shared
          part[name] = joint[name][:, head * c.head_dim : (head + 1) * c.head_dim]
        elif c.qk_norm:
          part[name] = norm(part[name], w['attention'][f'{name}_norm'])
        if depth not in c.no_rope_layers:
          part[name] = rotate64(part[name], *rope, c.rotary_dims)
      for t in range(T):
        seen = slice(max(0, t + 1 - c.window) if slides else 0, t + 1)
        score_S = part['k'][seen] @ part['q'][t]
        score_S = score_S * (c.attention_multiplier or c.head_dim**-0.5)
        weight_S = np.exp(score_S - score_S.max())
        heads_TxNxH[t, n] = weight_S / weight_S.sum() @ part['v'][seen]
    sites['heads'].append(heads_TxNxH)
    attended = heads_TxNxH.reshape(T, -1) @ w['attention']['out']['kernel']
    if c.post_norms:
      attended = norm(attended, w['attention_post_norm'])
    sites['attention_out'].append(attended * c.residual_multiplier)
    x_TxD = x_TxD + sites['attention_out'][-1]
    y_TxD = norm(x_TxD, w['mlp_norm']) if c.pre_norms else x_TxD
    up = y_TxD @ w['mlp']['up']['kernel']
    if c.gated_mlp:
      inner = act64(c.activation, y_TxD @ w['mlp']['gate']['kernel']) * up
    else:
      inner = act64(c.activation, up)
    fed = inner @ w['mlp']['down']['kernel']
    fed = norm(fed, w['mlp_post_norm']) if c.post_norms else fed
    sites['mlp_out'].append(fed * c.residual_multiplier)
    x_TxD = x_TxD + sites['mlp_out'][-1]
  hidden_TxD = norm(x_TxD, p['final_norm'])
  head_DxV = p['embed']['embedding'].T if c.tied_head else p['head']['kernel']
  return hidden_TxD @ head_DxV / c.logits_divisor, {
    k: np.stack(v) for k, v in sites.items()
  }


@pytest.mark.parametrize('name', CONFIGS)
def test_equals_the_reference_under_padding_on_either_side(name):
  config = CONFIGS[name]
  params = random_params(config)
  logits_BxTxV, sites = forward(config, params, TOKENS_BxT, VALID_BxT)
  assert logits_BxTxV.dtype == jnp.float32
  heads = (config.depth, B, T, config.num_heads, config.head_dim)
  assert sites['heads'].shape == heads
  for site in ('residual', 'attention_out', 'mlp_out'):
    assert sites[site].shape == (config.depth, B, T, config.width)
  for b, valid_T in enumerate(VALID_BxT):
    want_TxV, want_sites = reference(config, params, TOKENS_BxT[b, valid_T])
    np.testing.assert_allclose(logits_BxTxV[b, valid_T], want_TxV, atol=1e-5, rtol=1e-5)
    for site, want_LxT in want_sites.items():
      np.testing.assert_allclose(
        sites[site][:, b, valid_T], want_LxT, atol=1e-5, rtol=1e-5, err_msg=site
      )


@pytest.mark.parametrize(('name', 'atol'), [('llama', 1e-6), ('gemma', 5e-5)])
def test_scanned_equals_unrolled(name, atol):
  config = CONFIGS[name]
  unrolled, params = (
    dataclasses.replace(config, scan_layers=False),
    random_params(config),
  )
  first, second = (
    forward(c, params, TOKENS_BxT, VALID_BxT) for c in (config, unrolled)
  )
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=atol), first, second)


def test_learned_positions_bound_positions_and_not_slots():
  """Branches of a prefix need as many as the longest of them, not one for each slot."""
  config = dataclasses.replace(CONFIGS['world'], learned_positions=5)
  params = random_params(config)
  positions_BxT = np.tile([0, 1, 2, 3, 4, 3, 4], (B, 1))
  mask_BxTxT = np.tile(np.tril(np.ones((T, T), bool)), (B, 1, 1))
  mask_BxTxT[:, 5:, 3:5] = False
  run = functools.partial(decoder.apply, config, params, TOKENS_BxT)
  tree = dict(positions_BxT=positions_BxT, mask_BxTxS=mask_BxTxT)
  hidden_BxTxD = run(**tree, longest=5).hidden_BxCxD
  for rows in ([0, 1, 2, 3, 4], [0, 1, 2, 5, 6]):
    alone_BxTxD = decoder.apply(config, params, TOKENS_BxT[:, rows]).hidden_BxCxD
    np.testing.assert_allclose(hidden_BxTxD[:, rows], alone_BxTxD, atol=1e-5)
  cache = decoder.apply(config, params, TOKENS_BxT[:, :5], keep=True).cache
  for asked, found in (
    (dict(tree), 7),
    (dict(tree, longest=6), 6),
    (dict(longest=5), 7),  # says nothing of positions that are counted here
    (dict(tree, caches=[cache]), 12),
  ):
    with pytest.raises(ValueError, match=f'{found} tokens .*learned_positions=5'):
      run(**asked)
  step = dict(positions_BxT=np.full((B, 1), 3), mask_BxTxS=np.ones((B, 1, 6), bool))
  with pytest.raises(ValueError, match='6 tokens .those of caches'):
    decoder.apply(config, params, TOKENS_BxT[:, :1], **step, caches=[cache])


@pytest.mark.parametrize('name', CACHED)
def test_caches_continue_where_the_prompt_ended(name):
  """Side by side or in one; also where slots are not positions, with padding."""
  config = CONFIGS[name]
  params = random_params(config)
  whole_BxTxV, _ = forward(config, params, TOKENS_BxT, VALID_BxT)
  positions_BxT = attention.positions_of(VALID_BxT)
  mask_BxTxT = attention.causal_mask(VALID_BxT)

  @jax.jit
  def both(params):
    caches, parts, free = [], [], T - 4
    for start, stop in ((0, 4), (4, 6), (6, 7)):
      seen_BxNxT = mask_BxTxT[:, start:stop]
      masks = [seen_BxNxT[:, :, start:stop]]
      if caches:  # slots that are not written yet are seen by nothing
        unset = ((0, 0), (0, 0), (0, free - (start - 4)))
        masks = [
          seen_BxNxT[:, :, :4],
          jnp.pad(seen_BxNxT[:, :, 4:start], unset),
          *masks,
        ]
      out = decoder.apply(
        config,
        params,
        TOKENS_BxT[:, start:stop],
        positions_BxT=positions_BxT[:, start:stop],
        mask_BxTxS=jnp.concatenate(masks, axis=-1),
        caches=caches,
        keep=True,
      )
      parts.append(decoder.unembed(config, params, out.hidden_BxCxD))
      if caches:
        caches = [caches[0], caches[1].write(out.cache, start - 4)]
      else:
        caches = [out.cache, out.cache.empty(free)]
    return jnp.concatenate(parts, axis=1)

  logits_BxTxV = both(params)
  np.testing.assert_allclose(
    logits_BxTxV[VALID_BxT], whole_BxTxV[VALID_BxT], atol=1e-5, rtol=1e-5
  )


@pytest.mark.parametrize(
  ('name', 'depth'), [('llama', 1), *((name, 3) for name in CACHED)]
)
def test_rows_are_those_of_the_whole_output(name, depth):
  """Without a cache and with one, which holds every position whatever is read."""
  config = dataclasses.replace(CONFIGS[name], depth=depth)
  params = random_params(config)
  rows_BxC = np.array([[6, 0, 0], [3, 6, 4], [4, 1, 2]])  # valid, in any order

  @jax.jit
  def outputs(params):
    run = functools.partial(decoder.apply, config, params, TOKENS_BxT, VALID_BxT)
    cached = functools.partial(run, keep=True)
    return run(), run(rows_BxC=rows_BxC), cached(), cached(rows_BxC=rows_BxC)

  whole, some, whole_cached, some_cached = outputs(params)
  want_BxCxD = np.take_along_axis(whole.hidden_BxCxD, rows_BxC[..., None], axis=1)
  assert some.hidden_BxCxD.shape == (B, 3, config.width)
  for out in (some, some_cached):
    np.testing.assert_allclose(out.hidden_BxCxD, want_BxCxD, atol=1e-5)
  assert some.cache is None
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-5),
    some_cached.cache,
    whole_cached.cache,
  )


@pytest.mark.parametrize('scan', [True, False])
def test_rows_are_patched_like_the_whole(scan):
  """At every site, in the last layer too, of which only they are computed."""
  config = dataclasses.replace(LLAMA, scan_layers=scan)
  params, rng = random_params(config), np.random.default_rng(0)
  sites = decoder.apply(config, params, TOKENS_BxT, read=SITES).activations
  patch = {
    site: Patch(rng.normal(size=x.shape).astype('f4'), rng.random(x.shape[:3]) < 0.15)
    for site, x in sites.items()
  }
  run = functools.partial(decoder.apply, config, params, TOKENS_BxT, patch=patch)
  rows_BxC = np.array([[6, 0, 0], [3, 6, 4], [4, 1, 2]])
  want_BxCxD = np.take_along_axis(run().hidden_BxCxD, rows_BxC[..., None], axis=1)
  found_BxCxD = run(rows_BxC=rows_BxC).hidden_BxCxD
  np.testing.assert_allclose(found_BxCxD, want_BxCxD, atol=1e-5)


@pytest.mark.parametrize('name', [*CONFIGS])
def test_layers_go_on_from_what_enters_them(name):
  """One layer whose heads are known, then the others: the same as all of them."""
  config = CONFIGS[name]
  params = random_params(config)
  whole = decoder.apply(config, params, TOKENS_BxT, VALID_BxT, read=SITES)
  own = whole.activations
  part = lambda first, stop, entering, patch: decoder.apply(
    *decoder.some_layers(config, params, first, stop),
    TOKENS_BxT,
    VALID_BxT,
    entering_BxTxD=entering,
    patch=patch,
  )
  patch = {'heads': Patch(own['heads'][:1], None)}
  one = jax.jit(functools.partial(part, 0, 1))
  first = one(own['residual'][0], patch)
  np.testing.assert_allclose(first.leaving_BxCxD, own['residual'][1], atol=1e-5)
  rest = part(1, config.depth, first.leaving_BxCxD, {})
  np.testing.assert_allclose(rest.hidden_BxCxD, whole.hidden_BxCxD, atol=1e-5)
  # Attention is not computed where its outcome is known.
  products = [
    one.lower(own['residual'][0], x).compile().cost_analysis()['flops']
    for x in (patch, {})
  ]
  assert products[0] < 0.9 * products[1]


def patches(values, **masks):
  """Patches at every site; where no mask [L, B, T] is given, nothing is replaced."""
  none_LxBxT = np.zeros((LLAMA.depth, B, T), bool)
  return {
    site: Patch(value, masks.get(site, none_LxBxT)) for site, value in values.items()
  }


@pytest.mark.parametrize('site', SITES)
def test_a_patch_replaces_what_its_mask_names(site):
  params = random_params(LLAMA)
  before, own = forward(LLAMA, params, TOKENS_BxT, VALID_BxT)
  rng = np.random.default_rng(1)
  values = {k: rng.normal(size=x.shape).astype(np.float32) for k, x in own.items()}
  mask_LxBxT = np.zeros((LLAMA.depth, B, T), bool)
  mask_LxBxT[1, 0, 3] = True
  patch = patches(values, **{site: mask_LxBxT})
  after, sites = forward(LLAMA, params, TOKENS_BxT, VALID_BxT, patch)
  np.testing.assert_array_equal(sites[site][1, 0, 3], values[site][1, 0, 3])
  np.testing.assert_array_equal(sites[site][1, 0, :3], own[site][1, 0, :3])
  np.testing.assert_array_equal(sites[site][0], own[site][0])
  np.testing.assert_array_equal(after[1:], before[1:])
  np.testing.assert_array_equal(after[0, :3], before[0, :3])
  assert np.all(np.any(after[0, 3:] != before[0, 3:], axis=-1))


@pytest.mark.parametrize(
  ('asked', 'message'),
  [
    ({'read': ('mlp',)}, "unknown site 'mlp'.*residual"),
    ({'patch': {'mlp': None}}, "unknown site 'mlp'.*residual"),
    ({'read': ('heads',), 'rows_BxC': np.zeros((B, 1), int)}, 'rows_BxC leaves out'),
  ],
)
def test_what_cannot_be_read_or_patched_is_refused(asked, message):
  with pytest.raises(ValueError, match=message):
    decoder.apply(LLAMA, random_params(LLAMA), TOKENS_BxT, **asked)


def test_bfloat16_computes_in_bfloat16_and_gives_float32_logits():
  config = dataclasses.replace(LLAMA, dtype='bfloat16', param_dtype='bfloat16')
  params = random_params(config)
  assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(params))
  logits_BxTxV, sites = forward(config, params, TOKENS_BxT, VALID_BxT)
  assert logits_BxTxV.dtype == jnp.float32
  assert all(x.dtype == jnp.bfloat16 for x in sites.values())
  want_TxV, _ = reference(config, params, TOKENS_BxT[0])
  error = np.abs(np.asarray(logits_BxTxV[0]) - want_TxV)
  assert 1e-4 < error.max() < 0.05 * np.abs(want_TxV).max()


def test_init_is_a_function_of_the_seed():
  # Matrices of one shape: eager initialisation compiles for every shape.
  config = dataclasses.replace(
    LLAMA, num_heads=2, num_kv_heads=2, mlp_dim=8, gated_mlp=False
  )
  first, again, other = (decoder.init(config, seed) for seed in (3, 3, 4))
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert not np.array_equal(first['embed']['embedding'], other['embed']['embedding'])
  q_LxDxF = first['layers']['attention']['q']['kernel']
  assert not np.array_equal(q_LxDxF[0], q_LxDxF[1])  # layers draw their own weights
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(first) == shapes(decoder.abstract(config))


def test_num_params_counts_by_hand():
  block = 8 * 16 + 2 * 8 * 8 + 16 * 8 + 3 * 8 * 12 + 2 * 8
  assert decoder.num_params(decoder.abstract(LLAMA)) == 3 * block + V * 8 + 8


def test_fused_attention_is_what_a_gpu_is_given(monkeypatch):
  """Lowered for one that is not here; what it computes there is not seen."""
  versions = types.SimpleNamespace(cudnn_get_version=lambda: 9_12_00)
  monkeypatch.setattr(fused_attention_stablehlo, 'cuda_versions', versions)
  config = dataclasses.replace(
    LLAMA, dtype='bfloat16', attention='cudnn', num_kv_heads=1, head_dim=8
  )

  def loss(params, end_BxT):
    out = decoder.apply(
      config, params, np.ones((B, 6), int), mask_BxTxS=attention.tree_mask(end_BxT)
    )
    return jnp.sum(out.hidden_BxCxD.astype(jnp.float32))

  calls = ('__cudnn$fmhaScaleBiasSoftmax', '__cudnn$fmhaScaleBiasSoftmaxBackward')
  done = jax.export.export(
    jax.jit(jax.grad(loss)),
    platforms=['cuda'],
    disabled_checks=[jax.export.DisabledSafetyCheck.custom_call(x) for x in calls],
  )(decoder.abstract(config), jax.ShapeDtypeStruct((B, 6), np.int32))
  text = done.mlir_module()
  assert all(f'@{call}(' in text for call in calls)
