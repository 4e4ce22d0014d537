"""Answers that are kept as they come."""

import threading

import pytest

from coupling.runtime.answer_log import AnswerLog
from coupling.runtime.files import WorkdirError


def test_answers_come_back(tmp_path):
  log = AnswerLog(tmp_path / 'new' / 'a.jsonl')
  assert not len(log) and not log.path.exists()
  log.keep('x', {'text': 'é\n🙂', 'top': [['A', -0.5]]})
  log.keep('y', {'text': ''})
  again = AnswerLog(log.path)
  assert again['x'] == {'text': 'é\n🙂', 'top': [['A', -0.5]]}
  assert 'y' in again and 'z' not in again and len(again) == 2
  assert len(log.path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize('cut', range(1, 40, 3))
def test_a_kill_in_the_middle_of_a_line_costs_that_line(tmp_path, cut):
  log = AnswerLog(tmp_path / 'a.jsonl')
  log.keep('x', {'text': 'a'})
  log.keep('y', {'text': 'b'})
  log.path.write_bytes(log.path.read_bytes()[:-cut])
  again = AnswerLog(log.path)
  whole = cut == 1  # only the end of the line is gone
  assert ('y' in again) == whole and 'x' in again
  again.keep('z', {'text': 'c'})
  again.keep('y', {'text': 'b'})
  last = AnswerLog(log.path)
  assert [last[k]['text'] for k in 'xyz'] == ['a', 'b', 'c']


def test_what_is_no_answer_is_left_out(tmp_path, capsys):
  path = tmp_path / 'a.jsonl'
  path.write_text('[1]\n{"request": "x"}\n\xff\n{"request": "y", "answer": {"a": 1}}\n')
  log = AnswerLog(path)
  assert len(log) == 1 and 'y' in log
  assert '3 unreadable' in capsys.readouterr().err


def test_threads_share_a_log(tmp_path):
  log = AnswerLog(tmp_path / 'a.jsonl')
  keep = lambda k: [log.keep(f'{k} {i}', {'text': 'x' * 5_000}) for i in range(20)]
  threads = [threading.Thread(target=keep, args=(k,)) for k in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(AnswerLog(log.path)) == 80


def test_a_place_that_cannot_be_written_to(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(WorkdirError, match='cannot be'):
    AnswerLog(tmp_path / 'file' / 'a.jsonl').keep('x', {})
  (tmp_path / 'folder').mkdir()
  with pytest.raises(WorkdirError, match='cannot be read'):
    AnswerLog(tmp_path / 'folder')
