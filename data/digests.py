"""SHA-256 of files."""

import hashlib
import pathlib


def sha256(source: pathlib.Path | bytes) -> str:
  """Of a file, or of the bytes that were read from it; in hexadecimal."""
  if isinstance(source, bytes):
    return hashlib.sha256(source).hexdigest()
  with source.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
