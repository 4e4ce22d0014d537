"""Every claim that a study of the paper can hold: its words, unit and rule."""

import functools

from coupling.report import conclusions
from coupling.report.conclusions import Claim

LEFT = 0.1  # of the true change rate: below this, explanations have collapsed
ABOUT = 0.7  # similarity at which the paper sees the gap cross zero
ABOUT_LOW, ABOUT_HIGH = 0.6, 0.8  # what is called about ABOUT
SIMILAR = 0.7  # the paper's condition on behaviour similarity
# The smallest effects that matter, planned before any number was seen by these rules: 3
# points, a tenth of all explanations; of a doubling, 1 point.
POINTS, TENTH, DOUBLING = 0.03, 0.1, 0.01
SETTLED = POINTS  # scores that differ by less have settled
# A gap alone says little: labels that say nothing have one too, and so has denial.
COUPLED = (
  'gap above 0, and reliance on v’ above that of shuffled labels, paired by seed; what '
  'siblings share is not excluded here'
)
LOST = (
  'half of the gap with the main run’s KL, minus the gap without (paired by seed), '
  'above 0, where the gap with it is above 0: less than half is left'
)
TRACKS = (
  'it tracks: new − old above 0, and new above the companion’s{}; contradicted where '
  f'new − old is below 0; neither unless similarity is above {SIMILAR}, as in the paper'
)
WITH_ANSWER = (
  '; new − old above denial’s, and reliance on the items that the shift concerns above '
  '0'
)
# Of correlations, which near 1 differ by as little as thousandths, and never by chance.
MORE = 0.05
TO_PATCH = (
  f'difference of correlations, paired by seed, above {MORE}, and there is an '
  'explanation to patch; contradicted where it is below that'
)
CLAIMS = {
  # Controls.
  'own_beyond_sibling': Claim(
    'A model explains its own v’ better than that of its sibling, beyond what both '
    'share and the own answer',
    'slope of the own v’ where both give one answer with the cue and differ in v’, the '
    'smaller of both models’, above 0',
    'signed',
    matters=TENTH,
  ),
  'beyond_shuffled': Claim(
    'Explanations rely on current behaviour more than those trained on shuffled labels',
    'reliance on v’, self − orig, minus that of shuffled labels, paired by seed, above '
    '0',
    'signed',
    matters=TENTH,
  ),
  # Doses.
  'kl_gap': Claim(
    'With the behaviour KL, Self − Orig is above zero, and beyond shuffled labels',
    f'with the main run’s KL: {COUPLED}',
    against='shuffled labels',
    matters=POINTS,
  ),
  'kl_reliance': Claim(
    'With the behaviour KL, reliance on v’ is on self more than on orig',
    'self − orig with the main run’s KL above 0',
    'signed',
    matters=TENTH,
  ),
  'without_kl': Claim(
    'Without the behaviour KL, Self − Orig vanishes or reverses',
    LOST,
    against='gap without it',
  ),
  'noise_gap': Claim(
    'Self − Orig is above zero, and beyond shuffled labels, at every share of noise',
    f'at every share of noise: {COUPLED}; the number is the smallest',
    against='shuffled labels',
    matters=POINTS,
  ),
  'noise_reliance': Claim(
    'Reliance on v’ is on self more than on orig at every share of noise',
    'self − orig above 0 at every share of noise; the number is the smallest',
    'signed',
    matters=TENTH,
  ),
  'rank_slope': Claim(
    'The gap grows with the rank of the adapters',
    'slope of the gap on log rank, a line for each seed, above 0: points a doubling',
    matters=DOUBLING,
  ),
  'rank_threshold': Claim(
    'At the lowest rank there is no gap, at the highest there is',
    f'at the highest rank: {COUPLED}; and then half of that gap minus the gap at the '
    'lowest rank above 0',
    against='gap at the lowest rank',
  ),
  'rate_slope': Claim(
    'A higher learning rate widens the gap',
    'slope of the gap on the log of the rate, a line for each seed, above 0: points a '
    'doubling',
    matters=DOUBLING,
  ),
  # Over training.
  'last_gap': Claim(
    'At the end, Self − Orig is above zero, and beyond shuffled labels',
    f'at the last step: {COUPLED}',
    against='shuffled labels',
    matters=POINTS,
  ),
  'follows_truth': Claim(
    'Statements follow the truth: they move to it more often where it moved than where '
    'it stayed',
    'followed − moved to a truth that stayed, from the first to the last trained '
    'checkpoint, paired by seed, above 0, and above that of denial',
    against='denial',
    matters=POINTS,
  ),
  # Labels of others.
  'rises_with_similarity': Claim(
    'The more the labels agree with current behaviour, the more explanations follow '
    'behaviour rather than labels (reliance on v’)',
    'slope of reliance on v’, self − target, on similarity, a line for each seed, '
    'above 0; contradicted where it is below 0 and labels are shown to win in some run',
    'signed',
    'raw',
  ),
  'crossing': Claim(
    'Self − Target (reliance on v’) crosses zero at a similarity of about 0.7',
    f'slope above 0, and Fieller’s interval of the crossing inside {ABOUT_LOW} to '
    f'{ABOUT_HIGH}; contradicted where it is wholly outside, or where the slope is; '
    'inconclusive where runs reach neither the crossing nor this range',
    'decimal',
    'paper',
  ),
  'foreign_follow': Claim(
    'With all labels of another model, explanations still follow the own behaviour',
    'Self − Target above 0 for every such model, and reliance on v’ too, whose '
    'smallest is the number',
    'signed',
    'Self − Target',
    matters=TENTH,
  ),
  'foreign_fall': Claim(
    'With all labels of another model, explanations are less accurate',
    'Self minus Self with own labels, paired by seed, below 0 for every such model',
    against='paper',
  ),
  # Shifts.
  **{
    f'shift_{view}': Claim(
      f'{text} follows the shift (new − old)',
      TRACKS.format('' if view == 'change' else WITH_ANSWER),
      against='denial',
    )
    for view, text in (
      ('answer', 'v’'),
      ('change', 'Same/change'),
      ('label', 'The whole explanation'),
    )
  },
  'shift_beyond_shuffled': Claim(
    'Explanations follow the shift, beyond denial, more than with shuffled labels',
    'the cell tracks, and of it minus the same shift with shuffled labels, paired by '
    'seed, new − old, that minus denial’s (the number), and reliance where there is an '
    'answer are above 0',
    against='shuffled labels',
  ),
  'planted_explained': Claim(
    'A planted behaviour that was never explained is explained rightly',
    'planted (answers as planted − companion’s above 0), and then accuracy − denial, − '
    'companion’s statements, − majority and − the most that always “changed” can reach '
    'all above 0; contradicted where one of the first two is below',
    'percent',
    'paper',
  ),
  # Variety.
  'variety_collapse': Claim(
    'With too little variety of labels, explanations collapse to the majority class',
    f'at the lowest share above 0: rate said − {LEFT:.0%} of the true rate below 0',
  ),
  'variety_warning': Claim(
    'The warning of too little variety is there before that',
    'a dose collapsed, the warning is there at every dose that collapsed or may have, '
    'and at one with more variety that has not; contradicted where a collapsed dose '
    f'has none; the number is the lowest rate said − {LEFT:.0%} of the true rate of '
    'all doses without it',
  ),
  # Who is right.
  'privileged_access': Claim(
    'A model explains itself better than another one explains it',
    'own accuracy on v’ minus the other’s, paired by seed, above 0, and also where the '
    'other is told the model’s own answer; the number is the smaller of both',
    against='raw',
    matters=POINTS,
  ),
  # What the regulariser does.
  'keeps_classes': Claim(
    'Behaviour keeps both classes, so that raw agreement compares like with like',
    'current rate of changes minus half of M_0’s above 0',
  ),
  'loses_coupling': Claim(
    'Coupling on v’ is lost',
    'half of what the KL on both prompts has, minus that of this run (paired by seed), '
    'above 0, of reliance on v’ (the number) and of the gap on v’; inconclusive where '
    'the two differ, or where that KL has none',
    'signed',
    'this run',
  ),
  # Rounds of training.
  'refreshed_self': Claim(
    'After the last round, refreshed labels give truer explanations than fixed ones',
    'Self minus that with fixed labels, trained as long, paired by seed, above 0',
    against='fixed labels',
    matters=POINTS,
  ),
  'refreshed_reliance': Claim(
    '… and explanations that rely more on the present v’',
    'reliance on self minus that with fixed labels, paired by seed, above 0',
    'signed',
    'fixed labels',
    matters=TENTH,
  ),
  'fixed_lasts': Claim(
    'With fixed labels, reliance on v’ is still on self more than on orig after the '
    'last round',
    'self − orig above 0',
    'signed',
    matters=TENTH,
  ),
  'settles': Claim(
    'Scores settle after the second round of refreshed labels',
    'Self after the last minus that after the second, paired by seed, within '
    f'{SETTLED} of 0, and reliance on v’, self − orig, above 0 after the second: '
    'there is something to settle',
  ),
  # Circuits.
  'shares_circuits': Claim(
    'Behaviour and explanation share circuits',
    'correlation over components of the sizes of both effects above 0, and by '
    f'{MORE} above those with the explanation maps of other models, and there is an '
    'explanation to patch',
    'signed',
    'ceiling by noise',
  ),
  'sharing_grows': Claim(
    'Sharing grows with explanation training',
    TO_PATCH,
    'signed',
  ),
  'beyond_base_map': Claim(
    'More than with the explanation map of M_0',
    TO_PATCH,
    'signed',
  ),
  'beyond_map': Claim(
    'More than with the explanation map of another run',
    TO_PATCH,
    'signed',
  ),
  'beyond_run': Claim(
    'More than in another run',
    TO_PATCH,
    'signed',
  ),
  'knocked_out': Claim(
    'Knocking out what matters most to behaviour moves the explanation',
    'nats of x minus x’ in the explanation that top sites take with them, minus random '
    'ones, above 0',
    'signed',
    'whole',
  ),
  'moves_with_behavior': Claim(
    'The explanation then moves with the behaviour',
    'pairs whose explanation prefers what the ablated behaviour makes true, beyond '
    'what the shares alone give, minus the same of the explanation as it was, above 0',
  ),
  'moves_beyond': Claim(
    '… more than elsewhere',
    'the same, minus that of M_0 or of another run, paired by seed, above 0',
  ),
}
row = functools.partial(conclusions.row, CLAIMS)
