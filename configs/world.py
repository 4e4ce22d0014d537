"""Introspective coupling on the built-in world (data/world.py), the default experiment.

Claim (arXiv 2606.32038): a model trained to explain itself by fixed labels of its
former behaviour comes to explain its present behaviour better, if a KL holds that.

  python main.py --config=configs/world.py --workdir=runs/world --workers=2

Two cores, beside other work: 7 minutes for five worlds. Of worlds 11 to 20: gap +8.8
[+7.4, +10.2] points, similarity 71.5%, every check is passed (docs/world.md).
Arguments: seeds (how many), kl (0: no run with the KL), behavior (hint or request).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, seeds=5, kl=True, behavior='hint')
  config = ConfigDict()
  config.seeds = tuple(range(1, args['seeds'] + 1))  # world 0 served to choose settings
  config.task = dict(
    module='data.world',
    behavior=args['behavior'],
    train_pairs=24_000,
    practice_pairs=0,
    corpus='standard',
  )
  config.length = dict(max_tokens=16, too_long='raise')
  config.base = dict(
    model=dict(
      width=64,
      depth=3,
      num_heads=4,
      num_kv_heads=4,
      head_dim=16,
      mlp_dim=256,
      activation='relu',
      gated_mlp=False,
      qk_norm=False,
      tied_head=True,
      rope_theta=100.0,  # sequences are a dozen tokens long
      learned_positions=16,  # rotary alone learns to explain half as fast
      norm_eps=1e-6,
      embedding_std=0.3,
      dtype='float32',
      param_dtype='float32',
      scan_layers=False,
    ),
    seed=0,
    documents=600,
    batch=256,
    loop=_loop(steps=1_000, checkpoint_every=250),
    optimizer=_optimizer(
      learning_rate=6e-3, warmup_steps=100, schedule='cosine', weight_decay=1e-4
    ),
  )
  config.behavior = dict(read='first_token', per_token=False, calibration='none')
  config.label = dict(
    source='',
    batch=256,
    shard=6_144,
    reference='vocabulary',
    reply_tokens=1,
    stop_if_constant=False,  # a world takes minutes, and its report says so too
  )
  config.train = common.LABELS | dict(
    explanation_batch=128,
    behavior_batch=64,
    lora=dict(rank=0, alpha=16.0, targets=('q', 'k', 'v', 'o', 'up', 'down'), layers=0),
    loop=_loop(steps=1_200, checkpoint_every=300),
    # So labels and behaviour agree on more than 70% of the items: docs/world.md.
    optimizer=_optimizer(
      learning_rate=4e-3, warmup_steps=20, schedule='cosine', weight_decay=0.0
    ),
    objectives=dict(
      explanation_xent=dict(weight=2.0),  # two tokens: CE(v') + CE(same/change)
      behavior_kl=dict(
        weight=10.0,
        prompts='both',
        direction='forward',
        support='vocabulary',
        reference='labels',
      ),
      **common.NO_SHIFT,
    ),
  )
  config.evaluate = common.EVALUATE | dict(batch=256)
  config.patch = common.PATCH | dict(batch=256)
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  runs = {
    'kl': {},
    'no_kl': dict(objectives=dict(behavior_kl=dict(weight=0.0))),
    # Of the controls the end is enough.
    'sibling': dict(seed=1, loop=dict(checkpoint_every=1_200)),
    'shuffled': dict(shuffle_labels=True, loop=dict(checkpoint_every=1_200)),
  }
  if not args['kl']:
    runs = {'no_kl': runs['no_kl']}
  config.runs = runs
  config.report = dict(
    title='Introspective coupling on the built-in world',
    main='kl' if args['kl'] else 'no_kl',
    unregularised='no_kl' if args['kl'] else '',
    sibling='sibling' if args['kl'] else '',
    shuffled='shuffled' if args['kl'] else '',
  )
  return config


def _loop(steps: int, checkpoint_every: int) -> dict[str, int]:
  return dict(
    steps=steps,
    steps_per_dispatch=10,
    accumulation=1,
    checkpoint_every=checkpoint_every,
  )


def _optimizer(**changes) -> dict[str, float]:
  return dict(b1=0.9, b2=0.999, clip_norm=1.0) | changes
