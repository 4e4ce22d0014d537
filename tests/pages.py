"""A parser of pages that the tests of reports share."""

import html.parser

VOID = {'meta', 'br', 'img', 'link', 'hr', 'input'}


class Page(html.parser.HTMLParser):
  """Checks that tags are balanced; keeps the text of cells by data-path.

  A number that stands in two tables must be printed alike in both.
  """

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.attributes = [], [], []
    self.cells, self._path, self._text = {}, None, ''
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in VOID:
      self.open.append(tag)
    if tag == 'td':
      self._path, self._text = dict(attrs).get('data-path'), ''

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs

  def handle_endtag(self, tag):
    assert self.open.pop() == tag
    if tag == 'td' and self._path:
      assert self.cells.setdefault(self._path, self._text) == self._text

  def handle_data(self, data):
    self._text += data
