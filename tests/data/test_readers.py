"""Rows of CSV, JSON lines and Parquet come back as they are; bad files say why."""

import csv
import json
import pathlib

from hypothesis import given, settings, strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import readers
from tests import texts

TABLES = st.lists(
  st.fixed_dictionaries({'a': texts.TEXTS, 'b c': texts.TEXTS}), min_size=1
)


def write(path, table):
  """Writes rows of text by the file's suffix."""
  if path.suffix == '.csv':
    with path.open('w', encoding='utf-8', newline='') as file:
      writer = csv.DictWriter(file, list(table[0]))
      writer.writeheader()
      writer.writerows(table)
  elif path.suffix == '.jsonl':
    lines = [json.dumps(row, ensure_ascii=False) for row in table]
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  else:
    pq.write_table(pa.Table.from_pylist(table), path)


@pytest.mark.parametrize('suffix', ['.csv', '.jsonl', '.parquet'])
@given(table=TABLES)
@settings(deadline=None, max_examples=60)
def test_any_text_comes_back(tmp_path_factory, suffix, table):
  path = tmp_path_factory.mktemp('rows') / f'x{suffix}'
  write(path, table)
  found = list(readers.rows(path, ('a', 'b c')))
  assert [dict(row.values) for row in found] == table
  assert [row.text('b c') for row in found] == [row['b c'] for row in table]
  first = 2 if suffix == '.csv' else 1  # a header is row 1
  assert [row.where for row in found] == [
    f'{path} row {first + i}' for i in range(len(table))
  ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
  for name in ('x.csv', 'x.jsonl'):
    write(tmp_path / name, [{'a': '1', 'b': '2'}])
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(b'\xef\xbb\xbf' + data)
    assert [dict(r.values) for r in readers.rows(tmp_path / name, ('a',))] == [
      {'a': '1', 'b': '2'}
    ]


@pytest.mark.parametrize(
  'name, content, error',
  [
    ('x.csv', b'', r'x\.csv: the file holds no rows'),
    ('x.csv', b'a,b\n', r'x\.csv: the file holds no rows'),
    ('x.csv', b'a,b\n1,2\n3\n', r"x\.csv row 3: 1 cells, but the header has 2: \['a'"),
    ('x.csv', b'a,b\n1,2,3\n', r'x\.csv row 2: 3 cells, but the header has 2'),
    ('x.csv', b'a,a\n1,2\n', r'x\.csv row 1: the header names a column twice'),
    ('x.csv', b'b\n1\n', r"x\.csv row 2: no field 'a'; found \['b'\].*rename"),
    ('x.csv', b'a\n"cut off', r'x\.csv, after row 1: cannot be read as CSV.*cut off'),
    ('x.csv', b'a\nb\n\xff\xfe\n', r'x\.csv, byte 4 \(0xff\), line 3: .* as UTF-8'),
    ('x.csv', 'a\ndon’t'.encode('cp1252'), r'x\.csv, byte 5 .*1252 .*don’t.*as UTF-8'),
    ('x.csv', 'a\nb\n'.encode('utf-16'), r'x\.csv, byte 0 .*UTF-16.*save .* as UTF-8'),
    ('x.csv', 'a\nb\n'.encode('utf-16-be'), r'x\.csv, byte 0 .*UTF-16.* as UTF-8'),
    ('x.csv', 'a\nb\n'.encode('utf-16-le'), r'x\.csv, byte 1 .*UTF-16.* as UTF-8'),
    ('x.csv', b'version https://git-lfs', r'x\.csv: cannot be read: it is a pointer'),
    ('x.jsonl', b'\n\n', r'x\.jsonl: the file holds no rows'),
    ('x.jsonl', b'{"a": 1}\n{"a": ', r'x\.jsonl row 2: no JSON .*correct the row'),
    ('x.jsonl', b'[1]\n', r'x\.jsonl row 1: expected a JSON object'),
    ('x.jsonl', b'{"b": 1}\n', r"x\.jsonl row 1: no field 'a'"),
    ('x.jsonl', b'{"a": "\xff"}\n', r'x\.jsonl, byte 7 .*cannot be read as UTF-8'),
    ('x.jsonl', '{"a": "x"}'.encode('utf-16'), r'x\.jsonl, byte 0 .*save .* as UTF-8'),
    ('x.jsonl', b'[' * 10**5, r'x\.jsonl row 1: no JSON'),
    ('x.jsonl', b'{"a": 1' + b'0' * 10**4 + b'}', r'x\.jsonl row 1: no JSON'),
    ('x.parquet', b'version https://git-lfs', r'x\.parquet: cannot be read: it is a p'),
    ('x.parquet', b'', r'x\.parquet: cannot be read as Parquet'),
    ('x.txt', b'a', r'x\.txt: expected a file that ends in \.csv or \.jsonl'),
  ],
)
def test_a_bad_file_is_an_error_that_names_it(tmp_path, name, content, error):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(readers.DataError, match=error):
    list(readers.rows(tmp_path / name, ('a',)))


def test_cells_may_be_long_and_ends_of_lines_those_of_windows(tmp_path):
  long = 'word ' * 200_000
  for content in (f'a,b\n1,"{long}"\n', f'a,b\r\n1,"{long}"\r\n\r\n,\r\n , \r\n'):
    (tmp_path / 'x.csv').write_bytes(content.encode())
    [row] = readers.rows(tmp_path / 'x.csv', ('a',))
    assert (row.values['b'], row.number) == (long, 2)


def test_a_row_has_the_number_that_a_spreadsheet_gives_it(tmp_path):
  (tmp_path / 'x.csv').write_text('\na\n1\n\n2\n')
  assert [row.number for row in readers.rows(tmp_path / 'x.csv', ())] == [3, 5]


def test_rows_in_a_struct_and_columns_of_one_name(tmp_path):
  rows = [{'a': 'x', 'b': [1]}, {'a': None, 'b': []}]
  pq.write_table(pa.table({'train': rows}), tmp_path / 'x.parquet')
  assert [row.values for row in readers.rows(tmp_path / 'x.parquet', ('a',))] == rows
  two = pa.Table.from_arrays([pa.array(['x']), pa.array(['y'])], ['a', 'a'])
  pq.write_table(two, tmp_path / 'x.parquet')
  with pytest.raises(readers.DataError, match=r'x\.parquet: names a column twice'):
    list(readers.rows(tmp_path / 'x.parquet', ('a',)))


def test_a_truncated_parquet_file_is_an_error(tmp_path):
  write(tmp_path / 'x.parquet', [{'a': 'text'}] * 50)
  data = (tmp_path / 'x.parquet').read_bytes()
  (tmp_path / 'x.parquet').write_bytes(data[:-20])
  with pytest.raises(readers.DataError, match='x.parquet: cannot be read.*again'):
    list(readers.rows(tmp_path / 'x.parquet', ('a',)))


@pytest.mark.parametrize('value', ['', ' \n', None, 3, '\ud800'])
def test_what_is_no_text_is_an_error_that_names_the_field(value):
  row = readers.Row({'a': value}, pathlib.Path('file.csv'), 7)
  with pytest.raises(readers.DataError, match="file.csv row 7, field 'a': .*correct"):
    row.text('a')


def test_files_are_those_of_the_kind_in_order(tmp_path):
  for name in ('b/2.csv', 'a.csv', 'b/1.csv', 'b/1.txt'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('x')
  found = readers.files(str(tmp_path), ('.csv',))
  assert [str(p.relative_to(tmp_path)) for p in found] == [
    'a.csv',
    'b/1.csv',
    'b/2.csv',
  ]
  assert readers.files(str(tmp_path / 'a.csv'), ('.csv',)) == [tmp_path / 'a.csv']
  with pytest.raises(readers.DataError, match=r'no file that ends in \.jsonl'):
    readers.files(str(tmp_path), ('.jsonl',))
  with pytest.raises(readers.DataError, match=r'no file that ends in \.jsonl'):
    readers.files(str(tmp_path / 'a.csv'), ('.jsonl',))


def test_the_source_of_a_row_does_not_depend_on_where_the_folder_lies(tmp_path):
  for root in (tmp_path / 'here', tmp_path / 'there' / 'deep'):
    (root / 'sub').mkdir(parents=True)
    write(root / 'sub' / 'x.csv', [{'a': '1'}])
    [row] = readers.rows(root / 'sub' / 'x.csv', ())
    assert row.source(str(root)) == 'sub/x.csv row 2'
    assert row.source(str(root / 'sub' / 'x.csv')) == 'x.csv row 2'


def test_a_name_of_the_hub_is_answered_with_how_to_download_it():
  with pytest.raises(
    readers.DataError, match='hf download cais/mmlu --repo-type datas'
  ):
    readers.files('cais/mmlu', ('.csv',))
  with pytest.raises(readers.DataError, match='no such file or folder.*local file'):
    readers.files('/nowhere/at/all', ('.csv',))


def test_no_path_is_not_the_folder_that_one_happens_to_be_in(tmp_path, monkeypatch):
  (tmp_path / 'mine.csv').write_text('a\n1\n')
  monkeypatch.chdir(tmp_path)
  with pytest.raises(readers.DataError, match='No file or folder .*:path=FOLDER'):
    readers.files('', ('.csv',))
