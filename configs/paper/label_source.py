r"""Labels that are not of the model's present self.

Claim (arXiv 2606.32038): explanations follow behaviour where labels of any source agree
with it on about 70% of the items; with all labels of Llama, Self falls by 19 points.

  python main.py --config=configs/paper/label_source.py \
    --workdir=runs/label_source --workers=2

Worlds 51 to 60: the crossing is at 0.30 [0.20, 0.37], not 0.7 (docs/paper.md).
Arguments: see common.py; donor, for an imported model: folder of other labels.
"""

from ml_collections import ConfigDict

from configs.paper import common

STEPS = (250, 500)  # of M_0's pretraining, whose labels are taken: E(M_-k)
# Other models: another seed, another width and depth, another family of corpora.
WIDER = dict(width=96, depth=2, num_heads=6, num_kv_heads=6, mlp_dim=384)
SHORTER = dict(steps=600)  # pretraining of donors that train nothing themselves
DONORS = {
  # Another model that explains this one too, in privileged_access.py.
  'init': dict(base=dict(seed=1), reference='vocabulary'),
  'wide': dict(base=dict(seed=2, model=WIDER, loop=SHORTER)),
  'contrary': dict(task=dict(corpus='contrary'), base=dict(seed=3, loop=SHORTER)),
}
MIXED = 'contrary'
SHARES = (0.25, 0.5, 0.75)  # of labels of MIXED; the others are M_0's own


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, donor='')
  if args['on'] == 'world':
    for name, changes in DONORS.items():
      common.donor(config, name, **changes)
    runs = {f'step_{n}': dict(labels=f'step:{n}') for n in STEPS}
    runs |= {f'from_{n}': dict(labels=common.labels_of(n)) for n in DONORS}
    foreign = common.labels_of(MIXED)
  else:
    if not args['donor']:
      raise ValueError(
        "config argument donor='': give the folder of another model's label stage on "
        'the same task and seed; {seed} stands for the seed'
      )
    foreign = args['donor']
    runs = {'from_donor': dict(labels=foreign)}
  for share in SHARES:
    runs[f'mixed_{share:.0%}'.rstrip('%')] = dict(labels=foreign, mixture=share)
  common.add_runs(config, runs)
  common.add_study(
    config,
    'label_source',
    kind='sources',
    claim=(
      'Labels may come from another model: as long as they agree with current '
      'behaviour on about 70% of the items, explanations follow the behaviour.'
    ),
    published='about 0.7; with all labels from Llama, Self falls by 19 points',
    axis='agreement of the labels with E(M_t)',
    runs=('kl', *runs),
  )
  return config
