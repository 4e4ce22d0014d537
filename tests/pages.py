"""A parser of pages that the tests of reports share."""

import html.parser
import re

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


def alone(text: str) -> Page:
  """The page, which fetches nothing and whose references are to what is there, once."""
  page = Page(text)
  assert not {'script', 'link', 'img', 'iframe'} & set(page.tags)
  for name, value in page.attributes:
    if name in ('src', 'href', 'xlink:href'):
      assert value.startswith('#'), (name, value)
    assert name != 'style' or 'http' not in value
  assert '@import' not in text and 'url(http' not in text
  ids = [value for name, value in page.attributes if name == 'id']
  assert len(ids) == len(set(ids))
  references = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
  assert references and set(references) <= set(ids)
  return page
