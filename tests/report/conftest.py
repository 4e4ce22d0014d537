"""Finished workdirs and their numbers, made once for all tests that only read them."""

import pytest

from coupling.report import aggregate
from tests import recorded


@pytest.fixture(scope='session')
def one(tmp_path_factory):
  """The workdir of one seed."""
  workdir = tmp_path_factory.mktemp('one')
  recorded.build(workdir)
  return workdir


@pytest.fixture(scope='session')
def three(tmp_path_factory):
  """The workdir of three seeds."""
  workdir = tmp_path_factory.mktemp('three')
  recorded.build(workdir, seeds=3)
  return workdir


@pytest.fixture(scope='session')
def alone(one):
  """All numbers of one seed."""
  return aggregate.summarize(recorded.experiment(1), one)


@pytest.fixture(scope='session')
def summary(three):
  """All numbers of three seeds."""
  return aggregate.summarize(recorded.experiment(3), three)
