"""What stands in the rows and columns of the report's tables: label, path, format.

Labels name the models by WORDS: {base} behaved as the labels say, {current} explains.
In an audit nothing was trained, and the labels are given, whoever they are of.
"""

from coupling.report.numerals import count, decimal, percent, points, signed
from coupling.statistics.contrasts import LIKELIHOOD

WORDS = {  # by whether it is an audit
  False: {'base': 'M_0', 'current': 'M_t'},
  True: {'base': 'the labels', 'current': 'the model'},
}
ROLE_NAMES = {
  'main': 'main run',
  'unregularised': 'no behaviour regularisation',
  'sibling': 'another fine-tuning seed',
  'shuffled': 'shuffled labels',
}
EXPLAINER_NAMES = {
  'M_0': 'M_0, before training',
  'majority': 'majority class',
  'denial': 'denial: “unchanged”',
  'cue_parrot': 'cue parrot',
  'composition': 'composition: v’ of the labels, own answer',
  'other_explainer': 'a sibling’s statements',
  'input_only': 'inputs alone',
  'input_and_answer': 'inputs and own answer',
}
MAIN_ROWS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap: Self − Orig', 'gap', points),
  ('Reliance on self, given surface and own answer', 'reliance.self', decimal),
  ('Reliance on orig, given surface and own answer', 'reliance.orig', decimal),
  ('Reliance: self − orig', 'reliance.difference', signed),
  ('On v’ alone: reliance on self', 'reliance_answer.self', decimal),
  ('On v’ alone: reliance on orig', 'reliance_answer.orig', decimal),
  ('On v’ alone: self − orig', 'reliance_answer.difference', signed),
  ('Gap, class-balanced', 'balanced_gap', points),
  ('Gap on v’ alone', 'gap_answer', points),
  ('Gap beyond the surface', 'shuffled.corrected_gap', points),
  ('Changed: {base}', 'change_rate.base', percent),
  ('Changed: {current}', 'change_rate.current', percent),
  ('Changed: as explained', 'change_rate.stated', percent),
  ('Moved items', 'drift', percent),
  ('Moved: sides with self', 'moved.self', percent),
  ('Moved: sides with orig', 'moved.orig', percent),
  ('Moved: neither', 'moved.neither', percent),
  ('Moved: self − orig', 'moved.difference', points),
  ('Moved: self / orig', 'moved.ratio', decimal),
  ('Behaviour similarity', 'behavior_similarity', percent),
  ('Self beyond chance in strata', 'chance_corrected.self', decimal),
  ('Orig beyond chance in strata', 'chance_corrected.orig', decimal),
  ('Invalid explanations', 'invalid', percent),
)
FIELD_ROWS = (  # braces: self, orig
  ('Exact match', '{}_accuracy', percent),
  ('Has-changed macro-F1', 'field.{}.macro_f1', percent),
  ('Content match', 'field.{}.content_match', percent),
  ('… truly changed items', 'field.{}.content_match_changed', percent),
  ('φ-CCT', 'field.{}.phi_cct', decimal),
  ('CCT', 'field.{}.cct', decimal),
  ('F-AUROC, by likelihood', 'field.{}.f_auroc', decimal),
  ('NSG, beyond the own answer', 'field.{}.nsg', percent),
  ('NSG, beyond inputs alone', 'field.{}.nsg_inputs', percent),
)
VARIETY_ROWS = (
  ('Labels', 'labels.n', count),
  ('Labels that say “changed”', 'labels.changed', percent),
  ('Commonest label', 'labels.commonest', percent),
  ('Entropy, bits', 'labels.bits', decimal),
  ('… as so many equally frequent labels', 'labels.effective', decimal),
  ('… of the largest possible', 'labels.normalised', percent),
  ('“Unchanged” or “changed to k”: commonest label', 'statements.labels', percent),
  ('… commonest explanation', 'statements.commonest', percent),
  ('… commonest behaviour', 'statements.behavior', percent),
)
LIKELIHOOD_ROWS = (
  ('Greedy reply says the same', 'greedy_agreement', percent),
  *(row for row in MAIN_ROWS if row[1].split('.')[0] in LIKELIHOOD),
)
TRAJECTORY_COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Reliance on self', 'reliance.self', decimal),
  ('… on orig', 'reliance.orig', decimal),
  ('… self − orig', 'reliance.difference', signed),
  ('Balanced gap', 'balanced_gap', points),
  ('Similarity', 'behavior_similarity', percent),
  ('Invalid', 'invalid', percent),
  ('Changed: {current}', 'change_rate.current', percent),
  ('Changed: as explained', 'change_rate.stated', percent),
)
BASELINE_COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Balanced gap', 'balanced_gap', points),
  ('Gap on v’', 'gap_answer', points),
  ('Moved: self', 'moved.self', percent),
  ('Moved: orig', 'moved.orig', percent),
  ('Reliance on self', 'reliance.self', decimal),
  ('… on orig', 'reliance.orig', decimal),
  ('… on v’ alone: self − orig', 'reliance_answer.difference', signed),
)
CONTRAST_COLUMNS = (
  ('Gap', 'gap', points),
  ('Reliance: self − orig', 'reliance_difference', signed),
  ('Reliance on v’', 'reliance_answer_difference', signed),
)
STRATA_COLUMNS = (
  ('Items', 'n', count),
  ('Exact match', 'exact_match', percent),
  ('Precision', 'precision', percent),
  ('Recall', 'recall', percent),
  ('F1', 'f1', percent),
  ('Invalid', 'invalid', percent),
)
PLANTED_COLUMNS = (
  ('Answers as the cue says', 'followed', percent),
  ('Self', 'self_accuracy', percent),
  ('Denial in its place', 'denial', percent),
  ('Changed', 'changed', percent),
  ('… as explained', 'stated', percent),
)
FOLLOW_COLUMNS = (
  ('Truth moved, not yet said: items', 'moved_truth.n', count),
  ('… followed', 'moved_truth.followed', percent),
  ('Truth still: moved to it', 'still_truth.moved_to_truth', percent),
  ('Any move: truth moved', 'moved_truth.statement_moved', percent),
  ('… truth still', 'still_truth.statement_moved', percent),
)
DRIFT_COLUMNS = (
  ('Self − Self of the first', 'self_change', points),
  ('Similarity to the labels', 'similarity', percent),
  ('Invalid', 'invalid', percent),
  ('“Changed” is true of', 'changed', percent),
)
SIBLING_ROWS = (
  ('Agrees with own behaviour', 'own_accuracy', percent),
  ('Agrees with the sibling’s', 'sibling_accuracy', percent),
  ('Own − sibling', 'difference', points),
  ('Answers alike, v’ not: items', 'beyond_shared.n', count),
  ('… slope of the own v’, smaller of both models', 'beyond_shared.smaller', signed),
  ('Where the siblings differ: items', 'differing.n', count),
  ('… sides with own', 'differing.own', percent),
  ('… sides with the sibling', 'differing.sibling', percent),
  ('… neither', 'differing.neither', percent),
)
