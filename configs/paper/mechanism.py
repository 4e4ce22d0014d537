"""Do behaviour and explanation share circuits?

Claim (arXiv 2606.32038): activation patching shows that the same parts of the network
carry the behaviour and its explanation.

  python main.py --config=configs/paper/mechanism.py \\
    --workdir=runs/mechanism --workers=2

The stage `patch` runs on the main run, on the one without the KL and on that of
shuffled labels. Agrees where, over heads and MLPs, the sizes of their effects on
behaviour and on explanation correlate, more than before training, more than with the
explanation maps of M_0 and of shuffled labels, and more than without the KL; and where
knocking out what matters most to behaviour moves the explanation, and with the
behaviour. Only the half changed/unchanged of an explanation is patched. What is
compared, and what is left out since it is shared by construction, is in
coupling/statistics/sharing.py; it was settled on validation facts of world 0.

Seen on worlds 31 to 35: none of nine statements is decided. Correlation +0.57 [+0.08,
+0.84] at the end (by ranks +0.53 [+0.13, +0.78]; ceiling by noise 0.99), before
training +0.27 [-0.06, +0.54], without the KL +0.79 [+0.54, +0.91], shuffled labels
+0.49 [+0.35, +0.61]; of 1.6 nats of the explanation the behaviour's top components take
1.3, +0.92 [-0.08, +1.93] more than others of their kinds. With the cue removed instead
of moved: +0.47 [+0.20, +0.68], shuffled labels +0.35 [+0.03, +0.61], without the KL
+0.06 [-0.07, +0.19]. Its stages took eight minutes of `make paper` on two cores.

Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg)
  if args['on'] == 'refusal':
    raise ValueError(
      "config argument on='refusal': its justifications cannot be moved to another "
      'option, so no two prompts align; choose world, hint_mmlu or aita'
    )
  common.add_study(
    config,
    'mechanism',
    kind='mechanism',
    claim='The same parts of the network carry the behaviour and its explanation.',
    published='shared circuits, by activation patching',
    axis='training step',
    runs=('kl', 'no_kl', 'shuffled'),
  )
  return config
