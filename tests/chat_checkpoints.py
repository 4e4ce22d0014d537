"""Small Qwen3 checkpoints with random weights and a chat tokenizer, and questions."""

import csv
import pathlib

import transformers

from tests import chat_tokenizers, small_checkpoints


def save(folder: pathlib.Path, family: str = 'qwen', seed: int = 0) -> pathlib.Path:
  """Writes a checkpoint as transformers does; returns its folder.

  Args:
    folder: to write into.
    family: of the tokenizer, see chat_tokenizers.
    seed: of the weights.
  """
  chat_tokenizers.save(family, folder)
  config = transformers.Qwen3Config(
    vocab_size=len(chat_tokenizers.load(family)),
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    tie_word_embeddings=True,
  )
  small_checkpoints.torch_model(config, seed).save_pretrained(folder)
  return folder


def without_weights(folder: pathlib.Path) -> pathlib.Path:
  """Writes a checkpoint's config.json and chat tokenizer; returns the folder."""
  chat_tokenizers.save('qwen', folder)
  vocabulary = len(chat_tokenizers.load('qwen'))
  config = transformers.Qwen3Config(vocab_size=vocabulary, hidden_size=32)
  config.save_pretrained(folder)
  return folder


def save_questions(path: pathlib.Path, count: int = 60, answer: int = 1) -> str:
  """A CSV file of short questions in the layout of MMLU; returns its path."""
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['question', *(f'choice{i}' for i in range(4)), 'answer'])
    for i in range(count):
      # A few are longer.
      text = f'What is {i} and {i}?' + ' Think.' * (9 if i % 9 == 0 else 0)
      writer.writerow([text, i, 2 * i, 3 * i + 1, 4 * i + 2, answer])
  return str(path)
