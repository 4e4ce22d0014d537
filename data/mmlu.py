"""MMLU's questions, from the layouts in which they are handed out.

- CSV with the header question, choice0..choice3, answer (0-3), a file per subject;
- the original release: CSV without a header: question, four options, letter A-D;
- the hub's Parquet (cais/mmlu): question, subject, choices (a list), answer (0-3), a
  folder per subject, and `all`, which holds the same questions again.

Of a folder the split `test` is read unless others are asked for.

Hendrycks et al., "Measuring Massive Multitask Language Understanding", ICLR 2021.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import pathlib
from typing import Literal

from data import folders
from data import readers
from data import splits

LETTERS = ('A', 'B', 'C', 'D')
CHOICES = tuple(f'choice{i}' for i in range(len(LETTERS)))
OPTIONS = f'\n\n({LETTERS[0]}) '  # how they begin in a question's text
HEADER = ('question', *CHOICES, 'answer')
Split = Literal['test', 'validation', 'dev', 'train', 'auxiliary_train']
SPLITS: tuple[Split, ...] = ('test',)  # that are read by default


@dataclasses.dataclass(frozen=True)
class Question:
  """A question with four options; `answer` is the index of the right one."""

  question: str
  choices: tuple[str, ...]
  answer: int
  source: str  # file and row

  @property
  def text(self) -> str:
    """The question and its lettered options."""
    lettered = (f'({a}) {choice}' for a, choice in zip(LETTERS, self.choices))
    return self.question + '\n\n' + '\n'.join(lettered)

  @property
  def texts(self) -> tuple[str, ...]:
    """The options without outer blanks and a full stop that ends all of them."""
    texts = [choice.strip() for choice in self.choices]
    if all(text.endswith('.') for text in texts):
      texts = [text[:-1].rstrip() for text in texts]
    return tuple(texts)

  @property
  def content(self) -> tuple[str, tuple[str, ...], int]:
    """All but where it lies."""
    return self.question, self.choices, self.answer

  @property
  def group(self) -> str:
    """Of the question alone: with its options in another order it is the same."""
    return splits.content_hash(self.question)


def read(path: str, splits: Sequence[Split] = SPLITS) -> list[Question]:
  """The questions of a file, or of the .csv and .parquet files in a folder.

  A question that another file holds too, with its options and answer, is read once.

  Args:
    path: the file or folder.
    splits: of a folder, those that are read, beside files whose names speak of none.

  Raises:
    DataError: naming the file and row that cannot be used, and the remedy.
  """
  questions, seen, repeated = [], set(), []
  found = readers.files(path, ('.csv', '.parquet'), splits)
  # Folders `all` last, so that a question is named by the file of its subject.
  for file in sorted(found, key=lambda p: (p.parent.name == 'all', p)):
    read_rows = _parquet if folders.kind(file) == '.parquet' else _csv
    here = [_question(row, choices, path) for row, choices in read_rows(file)]
    new = [question for question in here if question.content not in seen]
    seen.update(question.content for question in here)
    questions += new
    if len(new) < len(here):
      repeated.append(f'{len(here) - len(new)} of {file}')
  folders.note_left_out(path, 'questions that other files hold too', repeated)
  return questions


def _parquet(path: pathlib.Path) -> Iterator[tuple[readers.Row, list[str]]]:
  for row in readers.rows(path, ('question', 'choices', 'answer')):
    choices = row.values['choices']
    if not isinstance(choices, list) or len(choices) != len(LETTERS):
      raise readers.DataError(
        f'{row.where}, field choices: expected {len(LETTERS)} options, found '
        f'{choices!r}; correct or remove the row.'
      )
    yield row, choices


def _csv(path: pathlib.Path) -> Iterator[tuple[readers.Row, list[str]]]:
  first, empty = True, True
  for number, cells in readers.cells(path):
    where, begins, first = f'{path} row {number}', first, False
    if begins and tuple(cells) == HEADER:
      continue
    if begins and 'question' in [cell.strip().lower() for cell in cells]:
      raise readers.DataError(
        f'{where}: the header is {cells}; expected {list(HEADER)}. Rename the columns.'
      )
    if len(cells) != len(HEADER):
      raise readers.DataError(
        f'{where}: {len(cells)} cells; a question has {len(HEADER)}: the question, '
        'four options, the answer. Correct or remove the row.'
      )
    row, empty = readers.Row(dict(zip(HEADER, cells)), path, number), False
    yield row, [row.text(choice) for choice in CHOICES]
  if empty:
    raise readers.DataError(f'{path}: the file holds no questions; give one that does.')


def _question(row: readers.Row, choices: list[str], root: str) -> Question:
  if not all(isinstance(choice, str) and choice.strip() for choice in choices):
    raise readers.DataError(
      f'{row.where}: an option without text: {choices!r}; correct or remove the row.'
    )
  answer = row.values['answer']
  known = {letter: i for i, letter in enumerate(LETTERS)}
  known |= {str(i): i for i in range(len(LETTERS))}
  if str(answer).strip() not in known:
    raise readers.DataError(
      f'{row.where}, field answer: expected 0-3 or A-D, found {answer!r}; correct or '
      'remove the row.'
    )
  index = known[str(answer).strip()]
  return Question(row.text('question'), tuple(choices), index, row.source(root))
