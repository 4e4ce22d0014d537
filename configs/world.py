"""Introspective coupling on the built-in world (data/world.py), the default experiment.

Claim (arXiv 2606.32038): a model that is trained to explain itself by fixed labels of
its former behaviour comes to explain its present behaviour better than the former
one, when its behaviour is held near to what it was (KL).

A decoder of 155 thousand parameters learns one world a seed; its explanations are then
trained for 560 steps on E(M_0). Runs: with the KL (`kl`), without (`no_kl`), with
another fine-tuning seed (`sibling`), on labels shuffled over items (`shuffled`).

  python main.py --config=configs/world.py --workdir=runs/world --workers=2

Seven to nine minutes on two cores. Measured over worlds 1 to 5, test facts, 95% t
intervals: gap +9.0 [+7.3, +10.8] points, balanced +9.0 [+7.3, +10.6]; weights on v'
+0.38 [+0.30, +0.47], beyond a sibling +0.39 [+0.33, +0.46], over shuffled labels +0.12
[+0.02, +0.22]; without the KL the balanced gap is -15.4 [-20.8, -9.9].

Chosen once, on validation facts of worlds 0, 100 and 101: the base's length,
initialisation and learning rate; the learning rate, length, weight and batch of
explanation training. Other lengths had been evaluated on test facts too, all fewer or
more steps for the time that they take. So it was run once more, on worlds 6 to 10,
which nothing had touched (--config.seeds="(6,7,8,9,10)"): gap +8.6 [+3.5, +13.8],
weights on v' +0.31 [+0.16, +0.46], beyond a sibling +0.36 [+0.31, +0.42]; but over
shuffled labels -0.02 [-0.26, +0.22], so that the verdict does not confirm that control.

Arguments: seeds (how many), kl (0: leave out every run with the KL), behavior (hint, or
request: comply and refuse, with a stated reason as the cue).
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
    loop=_loop(steps=560, checkpoint_every=140),
    optimizer=_optimizer(
      learning_rate=4e-3, warmup_steps=20, schedule='constant', weight_decay=0.0
    ),
    objectives=dict(
      explanation_xent=dict(weight=2.0),  # two tokens: CE(v') + CE(same/change)
      behavior_kl=dict(
        weight=1.0,
        prompts='both',
        direction='forward',
        support='vocabulary',
        reference='labels',
      ),
      behavior_xent=common.NO_SHIFT,
    ),
  )
  config.evaluate = dict(split='test', batch=256, likelihood=False)
  config.patch = common.PATCH | dict(batch=256)
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  config.runs_at_once = 1
  runs = {
    'kl': {},
    'no_kl': dict(objectives=dict(behavior_kl=dict(weight=0.0))),
    # Of the controls the end is enough.
    'sibling': dict(seed=1, loop=dict(checkpoint_every=560)),
    'shuffled': dict(shuffle_labels=True, loop=dict(checkpoint_every=560)),
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
