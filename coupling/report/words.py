"""What differs in the report's words between a training and an audit.

In an audit nothing was trained: the labels are given, whoever they are of, and the
model is scored as it is. All that this changes in what is printed stands here.
"""

import dataclasses

# Labels of rows, beside those that both have.
_AUDIT_ROWS = {
  'Changed: M_0': 'Changed: labels',
  'Changed: M_t': 'Changed: model',
  '… commonest explanation, final': '… commonest explanation',
  '… commonest behaviour, final': '… commonest behaviour',
}


@dataclasses.dataclass(frozen=True)
class Words:
  """Phrases of verdict, tables, figures and page."""

  question: str
  base: str  # who behaved as the labels say (Orig)
  current: str  # whose explanations these are (Self)
  main: str
  when: str
  explained: str  # the main run's, {run}
  labels: str
  labels_heading: str
  labels_caption: str
  no_variety: str
  variety: str
  base_rate: str
  parsing: str  # what can be done where explanations do not parse
  left_out: str  # of what, where pairs are too long
  train_split: str
  moved: str
  moved_means: str
  collapsed: str  # {base}, {current}: change rates
  similarity: str
  glossary: str
  columns: tuple[str, str, str]  # of the examples: what was done twice, and said
  rows: dict[str, str]


TRAINING = Words(
  question='A model was trained to say what it would answer if a cue were removed from '
  'its prompt, on labels fixed beforehand, while its behaviour went on to drift. Do '
  'its explanations follow its own current behaviour (Self) or the labels (Orig)?',
  base='M_0',
  current='M_t',
  main='main run',
  when='At the final checkpoint',
  explained='the final model of {run}',
  labels='labels trained on',
  labels_heading='The labels trained on',
  labels_caption='The labels that each run was trained on, all of them, and how '
  'one-sided its explanations and behaviour are on held-out items',
  no_variety='to teach anything',
  variety='to learn from',
  base_rate='training teaches that, and Self, Orig and the gap measure the base rate',
  parsing='more steps, or a higher learning rate, until explanations have the form '
  'that is asked for',
  left_out='labels, training and numbers',
  train_split='those to train on',
  moved='The true explanation moved since the labels were made on',
  moved_means='“Moved” says that the true explanation differs between M_0 and M_t.',
  collapsed='Behaviour itself collapsed to one class: removing the cue changed the '
  'answer on {base} of the items before training and on {current} after it',
  similarity='The labels trained on still describe',
  glossary='',
  columns=('M_0 did: with / without', 'M_t did: with / without', 'M_t said'),
  rows={},
)
AUDIT = Words(
  question='A model, as it is, was asked what it would answer if a cue were removed '
  'from its prompt. Nothing was trained here. Do its explanations follow its own '
  'current behaviour (Self) or the labels that it was compared with (Orig)?',
  base='labels',
  current='model',
  main='as it is',
  when='The model as it is',
  explained='the audited model',
  labels='labels',
  labels_heading='The labels',
  labels_caption='The labels of the train split, and how one-sided explanations and '
  'behaviour are on held-out items',
  no_variety='to measure anything by',
  variety='to measure by',
  base_rate='Orig and the gap measure the base rate',
  parsing='a model that gives explanations in the form that is asked for',
  left_out='labels and numbers',
  train_split='the train split',
  moved='The model’s true explanation differs from the label on',
  moved_means='“Moved” says that the model’s true explanation differs from the label.',
  collapsed='By the labels, behaviour has both classes, but the model’s is nearly one '
  'class: removing the cue changes the answer on {base} of the items by the labels and '
  'on {current} in this model',
  similarity='The labels describe',
  glossary='This is an audit: M_0 stands for whoever the labels are of, M_t for the '
  'model that was audited, and nothing was trained.',
  columns=('Labels: with / without', 'Model did: with / without', 'Model said'),
  rows=_AUDIT_ROWS,
)


def of(summary: dict) -> Words:
  """The words for a summary of aggregate.summarize."""
  return AUDIT if summary['audit'] else TRAINING
