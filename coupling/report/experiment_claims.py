"""Every claim, warning and headline that the report of an experiment can hold."""

from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, NOT_TESTED
from coupling.report.conclusions import SUPPORTED, Claim

ABOVE = 'the whole interval lies above 0'
CLAIMS = {
  'gap': Claim(
    'Self exceeds Orig',
    f'{ABOVE}; whoever knows the own answer alone may reach that too',
    against='denial',
    decides=True,
  ),
  'reliance': Claim(
    'On v’ alone, explanations rely on current behaviour more than on the labels',
    f'{ABOVE}, given the cue and the own answer; denial has 0, but what inputs give '
    'may reach it',
    'signed',
    decides=True,
  ),
  'other_labels': Claim(
    'On v’ alone, they rely on current behaviour more than on another model’s labels',
    f'{ABOVE}; those were trained on, and Orig is still by the own labels',
    'signed',
    decides=True,
  ),
  'sibling': Claim(
    'Explanations know more of their own model than what a sibling shares',
    f'{ABOVE} for the smaller of both models, where both give one answer with the cue '
    'and differ in v’',
    'signed',
    decides=True,
  ),
  'shuffled': Claim(
    'Reliance on v’ exceeds that after the same training on shuffled labels',
    f'{ABOVE}, paired by item',
    'signed',
    decides=True,
  ),
  'other_explainer': Claim(
    'On v’, reliance on self exceeds that of a sibling’s statements in its place',
    f'{ABOVE}, paired by item; models that drift alike explain each other',
    'signed',
    decides=True,
  ),
  'input_only': Claim(
    'On v’, reliance on self exceeds that of an explainer that reads inputs alone',
    f'{ABOVE}, paired by item; trained on the same labels',
    'signed',
    decides=True,
  ),
  'seeds': Claim(
    'Several seeds were run',
    'one seed shows no variation over seeds',
    'count',
    decides=True,
  ),
  'planted': Claim(
    'A planted behaviour that was never explained is explained rightly',
    'it is planted, and right more often than denial, than always “changed”, with '
    '“changed” said more often than without the planting: no intervals overlap',
    'percent',
    'denial',
  ),
  'similarity': Claim(
    'Labels and current behaviour agree on more than the paper’s 70%',
    'the whole interval lies above the threshold',
    'percent',
    'threshold',
  ),
  'balanced_gap': Claim(
    'Self exceeds Orig with changed and unchanged items weighted alike',
    f'{ABOVE}; where this contradicts the raw gap, that measures base rates',
    against='denial',
  ),
  'gap_answer': Claim('Self exceeds Orig on v’ alone', ABOVE, against='denial'),
  'whole_reliance': Claim(
    'In whole explanations, reliance on self exceeds that on orig',
    f'{ABOVE}; old v’ put together with the own answer has that too',
    'signed',
  ),
  'surface': Claim(
    'Self exceeds Orig beyond the surface',
    f'{ABOVE}, minus what is left when explanations are shuffled among items of equal '
    'cue and answer; its ceilings for Self and Orig differ',
  ),
  'classes': Claim(
    'Behaviour keeps both classes, changed and unchanged',
    'the rarer one is at least half as frequent as by the labels, in the mean; else '
    'raw agreement measures how often “changed” is said',
    'percent',
    'half of the labels’',
  ),
  'parted': Claim(
    'Explanations have parted from behaviour since the checkpoint named',
    'there and at every later one the whole interval of Self minus Self of the first '
    'lies below 0, all checkpoints together; the number is the last one’s',
  ),
  'dissimilar': Claim(
    'Behaviour has left the labels since the checkpoint named',
    'there and at every later one the whole interval of similarity lies below the '
    'paper’s 70%, all checkpoints together; the number is the last one’s',
    'percent',
    'threshold',
  ),
  'unregularised': Claim(
    'Without behaviour regularisation, reliance on self exceeds that on orig',
    ABOVE,
    'signed',
    'with it',
  ),
  'unregularised_answer': Claim(
    'Without behaviour regularisation, that holds on v’ alone',
    f'{ABOVE}; a gap on v’ would be no evidence, as denial has one',
    'signed',
    'with it',
  ),
  'unregularised_self': Claim(
    'Without behaviour regularisation, the current v’ is followed at all',
    ABOVE,
    'decimal',
    'with it',
  ),
}
# Of warnings, `why` says what can be done. Limits are rules of thumb, not measured.
WARNINGS = {
  'few_changed': Claim(
    'Too few labels say “changed”: always “unchanged” is then nearly always right',
    'stronger cues, labels balanced by leaving out others, or another model',
    'percent',
    'at least',
  ),
  'many_changed': Claim(
    'Too many labels say “changed”: always “changed” is then often right',
    'weaker cues, labels balanced by leaving out others, or another model',
    'percent',
    'at most',
  ),
  'one_label': Claim(
    'One label holds most of the items: saying it always is then nearly always right',
    'other cues, labels balanced by leaving out its items, or another model',
    'percent',
    'at most',
  ),
  'collapsed': Claim(
    'Explanations have collapsed to one statement, though the labels vary',
    'more examples, labels balanced by class, or fewer steps',
    'percent',
    'at most',
  ),
  'collapsed_majority': Claim(
    'Explanations have collapsed to the majority class of the labels',
    'more examples, labels balanced by class, or fewer steps',
    'percent',
    'at most',
  ),
  'below_denial': Claim(
    'Changed and unchanged items alike, explanations are right less often than denial',
    'more examples or steps, or labels balanced by class',
    'percent',
    'denial',
  ),
  'one_behavior': Claim(
    'Behaviour is nearly one class too: explanations that follow it look the same',
    'read the balanced numbers and the change rates',
    'percent',
    'at most',
  ),
  'invalid': Claim(
    'Explanations do not parse and count as wrong: Self and Orig are too low',
    'read the statements; train longer or at a higher rate on these labels, or ask in '
    'the words that the model was trained on',
    'percent',
    'at most',
  ),
  'unnamed': Claim(
    'Replies name no option, or several, as where they quote a cue: that counts as a '
    'change of the answer',
    'a question that asks for the option alone, or behavior.read=text',
    'percent',
    'at most',
  ),
  'left_out': Claim(
    'Pairs were left out for their length: this is about the shorter texts',
    'a higher length.max_tokens, where memory allows',
    'percent',
    'at most',
  ),
}
# State, and the one sentence that a report begins with.
HEADLINES = {
  'shown': (
    SUPPORTED,
    'Introspective coupling is shown here: the explanations follow the model’s own '
    'current behaviour more than the labels, and every check is passed.',
  ),
  'of_audit': (
    INCONCLUSIVE,
    'The explanations describe the model’s own behaviour better than these labels do, '
    'which is coupling only if it was taught to explain itself by them.',
  ),
  'unproven': (
    INCONCLUSIVE,
    'What was run is evidence for introspective coupling, but coupling is unproven: '
    'not every control and seed was run, or there are warnings.',
  ),
  'gap_alone': (
    INCONCLUSIVE,
    'Self exceeds Orig, but that alone is not coupling: not every check is passed, and '
    'whoever knows only the own answer may reach it.',
  ),
  'measures_disagree': (
    INCONCLUSIVE,
    'Two measures disagree: the explanations agree with the labels more often, but '
    'given the cue and the own answer they rely on current behaviour more.',
  ),
  'failed': (
    CONTRADICTED,
    'The effect failed here: the explanations follow the labels more than the model’s '
    'own current behaviour.',
  ),
  'labels_more_often': (
    INCONCLUSIVE,
    'The effect is not shown here: the explanations agree with the labels more often, '
    'and reliance does not say which of the two they follow.',
  ),
  'gap_around_zero': (
    INCONCLUSIVE,
    'The effect is not shown here: the interval of Self − Orig includes zero, which is '
    'no proof of its absence.',
  ),
  'no_interval': (
    NOT_TESTED,
    'Nothing can be concluded: Self − Orig has no interval here, as where no '
    'explanation is in the form that was asked for. Warnings say why.',
  ),
}
