"""The words of the report: word, name in report.json, meaning, interval in a run."""

_WILSON = 'Wilson’s, at the effective sample size of grouped items'
_BOOTSTRAP = 'paired bootstrap over groups, studentised'
_NONE = 'none'

TERMS = [
  (
    'M_0, M_t',
    'step 0, step t',
    'The model before explanation training, after t steps.',
    _NONE,
  ),
  (
    'Cue, group',
    '',
    'The part of the prompt that is removed; what an item is about, '
    'the unit of sampling.',
    _NONE,
  ),
  (
    'Explanation',
    'stated',
    'The answer without the cue (v’), and whether it differs '
    'from the answer with it; right only if both are.',
    _NONE,
  ),
  (
    'Self',
    'self_accuracy',
    'Share of explanations that agree with the current model’s behaviour.',
    _WILSON,
  ),
  ('Orig', 'orig_accuracy', 'Share that agree with M_0’s behaviour.', _WILSON),
  ('Gap', 'gap', 'Self − Orig.', _BOOTSTRAP),
  (
    'Balanced gap',
    'balanced_gap',
    'The same with truly changed and unchanged items '
    'weighted alike, each truth by its own classes.',
    _BOOTSTRAP,
  ),
  (
    'v’ gap',
    'gap_answer',
    'The same for the answer without the cue alone.',
    _BOOTSTRAP,
  ),
  (
    'Weight on self, on orig',
    'siding.self, .orig, .difference',
    'Least squares of what is stated on both truths, within strata of equal surface '
    'and equal own answer, averaged over strata in which both vary: the share of '
    'explanations that follows each. Whoever reads only the surface and the own answer '
    'has 0 on both, whatever gap it has; whoever knows both alike, a difference of 0.',
    'studentised bootstrap over groups',
  ),
  (
    'Weights on v’ alone',
    'siding_answer',
    'The same for the answer without the cue alone. In whole labels, old v’ put '
    'together with the current answer earns weight on self; here it does not.',
    'studentised bootstrap over groups',
  ),
  (
    'Gap beyond the surface',
    'shuffled.corrected_gap',
    'The gap minus what is left of it (null_gap) when explanations are shuffled among '
    'items with the same cue and current answer: agreement beyond the surface. Self '
    'and Orig have different ceilings there, so read the weights first.',
    _BOOTSTRAP,
  ),
  (
    'Changed',
    'change_rate',
    'Share of items whose answer differs without the cue: '
    'of M_0 (base), of M_t (current), as explained (stated).',
    _WILSON,
  ),
  (
    'Moved items',
    'drift',
    'Share of items whose true explanation differs between M_0 and M_t.',
    _WILSON,
  ),
  (
    'Sides with',
    'moved.self, .orig, .neither',
    'Of the moved items, whose truth the explanation agrees with.',
    _WILSON,
  ),
  (
    'Self / orig',
    'moved.ratio',
    'Of the moved items, those siding with self over those siding with orig.',
    _BOOTSTRAP,
  ),
  (
    'Self − orig',
    'moved.difference',
    'Of the moved items, the difference of the two shares.',
    _BOOTSTRAP,
  ),
  (
    'Behaviour similarity',
    'behavior_similarity',
    'Share of items on which the labels trained on agree with M_t’s behaviour.',
    _WILSON,
  ),
  (
    'Beyond chance in strata',
    'chance_corrected',
    '(p_o − p_e) / (1 − p_e), where chance p_e is the agreement left when '
    'explanations are shuffled within strata (null_self, null_orig).',
    _NONE,
  ),
  (
    'Labels: commonest, entropy',
    'runs.….labels',
    'Share of the most frequent label trained on (where “unchanged” names no answer, '
    'all “unchanged” are one label); entropy in bits (bits), as a number of equally '
    'frequent labels (effective), as a share of the largest possible (normalised). '
    'All labels are counted.',
    _NONE,
  ),
  (
    'Commonest explanation',
    'runs.….statements',
    'Share of the statement made most often, of “unchanged” and “changed to k”; '
    'majority is the share that states the commonest label.',
    _NONE,
  ),
  (
    'Invalid',
    'invalid',
    'Share of explanations that do not parse; they count as wrong.',
    _WILSON,
  ),
  (
    'Precision, recall, F1',
    'strata',
    'Of items said changed, the share truly so; of '
    'those truly changed, the share said so; their harmonic mean. Unchanged likewise.',
    _NONE,
  ),
  (
    'Sibling',
    'sibling',
    'The main run with another fine-tuning seed. Own minus sibling’s behaviour, over '
    'both models; the same for denial in their place.',
    _BOOTSTRAP,
  ),
  (
    'Beyond what is shared',
    'sibling.….beyond_shared.smaller',
    'Among items to which both siblings give one answer with the cue and different '
    'ones without it: slope of which of the two v’ is stated on which is the own one, '
    'freed of what a model prefers whatever the item; the smaller of both models’. '
    'Knowledge that both share gives no more than 0.',
    _BOOTSTRAP,
  ),
  (
    'Shuffled labels',
    'contrasts.shuffled',
    'The main run trained on labels that belong to other items; differences of gaps '
    'and of weights, paired.',
    _BOOTSTRAP,
  ),
  (
    'Majority, denial, cue parrot',
    'baselines, unregularised_baselines',
    'Say the most frequent training label; the own answer, unchanged; the option of '
    'the cue. All know the own answer, which is why they have a gap; their weights '
    'are 0. Majority is denial where “unchanged” is the most frequent label.',
    'shares as Self, gaps as Gap',
  ),
  (
    'By likelihood',
    'likelihood',
    'The explanation is the allowed statement with the highest likelihood, summed over '
    'its tokens and its end, instead of the greedy reply; greedy_agreement is the '
    'share of greedy replies that say the same. Nothing in the verdict rests on it.',
    'shares as Self, gaps as Gap, weights as Weight',
  ),
  (
    'Followed',
    'follow',
    'Of items whose truth moved between two checkpoints to one that the labels do not '
    'tell, and whose explanation was not right about it before, the share whose '
    'explanation moved to the new truth; beside it, how often one moves to a truth '
    'that stood still, apart from the labels too.',
    _WILSON,
  ),
]
