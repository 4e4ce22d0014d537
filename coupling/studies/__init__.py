def write(*x):
  pass
