"""The tokenizer and chat template that a GGUF file's metadata describe.

Where readers of GGUF differ, the tokenizer.json of the model itself decides: SmolLM2's
splits numbers into digits, as llama.cpp does and transformers does not; Qwen's composes
characters (NFC), which neither does; SentencePiece's puts no second blank before a text
that begins with one, where llama.cpp does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from coupling.checkpoints import gguf_file
from coupling.checkpoints.hf_config import CheckpointError
from data.encoder import Tokenizer


# Kinds of tokens.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_SPECIAL = {  # name in transformers -> in the metadata
  'bos_token': 'bos',
  'eos_token': 'eos',
  'unk_token': 'unknown',
  'pad_token': 'padding',
}
# What ends a reply beside the end token: llama.cpp goes by these names, too.
_ENDS = ('eos', 'eot', 'eom')
_END_NAMES = (
  *('<|endoftext|>', '<|end_of_text|>', '<|im_end|>', '<|eot_id|>', '<|eom_id|>'),
  *('<end_of_turn>', '<|end|>', '<EOT>', '</s>', '<｜end▁of▁sentence｜>'),
)

# How a text is split before byte pairs are merged, by `tokenizer.ggml.pre`; as in
# llama.cpp (llama-vocab.cpp) and the tokenizer.json of the models on the hub.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_TEKKEN = (
  r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+'
  r'|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*'
  r'|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_SPLITS = {
  'gpt-2': (_GPT2,),
  'smollm': (r'\p{N}', _GPT2),
  'llama-bpe': (_LLAMA3,),
  'qwen2': (_LLAMA3.replace('{1,3}', ''),),
  'tekken': (_TEKKEN,),
}
_ALIASES = {
  'llama3': 'llama-bpe',
  'llama-v3': 'llama-bpe',
  'falcon3': 'llama-bpe',
  'deepseek-r1-qwen': 'qwen2',
}
# A word that is one token is that token, whatever its merges.
_WHOLE_WORDS = ('llama-bpe', 'tekken')
_COMPOSED = ('qwen2',)  # characters are composed first

_SPACE = '▁'


def build(file: gguf_file.GGUF) -> Tokenizer:
  """The tokenizer, with its special tokens and its chat template if there is one.

  Raises:
    CheckpointError: a kind of tokenizer that is not supported, or one that is damaged.
  """
  data = _Metadata(file)
  backend = data.byte_level() if data.kind == 'gpt2' else data.pieces()
  _add_tokens(backend, data)
  special = {
    name: data.tokens[data.ids[key]]
    for name, key in _SPECIAL.items()
    if key in data.ids
  }
  _surround(backend, data, special)
  tokenizer = Tokenizer(
    tokenizer_object=backend,
    clean_up_tokenization_spaces=False,
    model_max_length=file[f'{data.architecture}.context_length'],
    **special,
  )
  tokenizer.chat_template = file.metadata.get('tokenizer.chat_template')
  return tokenizer


def special_ids(file: gguf_file.GGUF) -> dict[str, int]:
  """Ids of the special tokens that the metadata name: bos, eos, padding, ..."""
  return _Metadata(file).ids


def end_ids(file: gguf_file.GGUF) -> list[int]:
  """Ids of the tokens that end a reply; the end token first."""
  data = _Metadata(file)
  named = [data.ids[key] for key in _ENDS if key in data.ids]
  control = [
    i
    for i, (token, kind) in enumerate(zip(data.tokens, data.kinds))
    if kind == _CONTROL and token in _END_NAMES
  ]
  return list(dict.fromkeys([*named, *control]))


class _Metadata:
  """What the metadata say of the tokenizer, checked."""

  def __init__(self, file: gguf_file.GGUF):
    self._file = file
    self.architecture = file['general.architecture']
    self._gemma = self.architecture.startswith('gemma')
    self.kind = self('model')
    if self.kind not in ('gpt2', 'llama'):
      raise CheckpointError(
        f'{file.path}: tokenizer.ggml.model={self.kind!r} is not supported, which are '
        "gpt2 (byte pairs) and llama (SentencePiece); give the model's folder in the "
        "hub's format."
      )
    self.tokens = self._rename(self('tokens'))
    self.kinds = self.get('token_type') or [1] * len(self.tokens)
    self.ids = {
      key.removeprefix('tokenizer.ggml.').removesuffix('_token_id'): value
      for key, value in file.metadata.items()
      if key.startswith('tokenizer.ggml.') and key.endswith('_token_id')
    }
    for key, i in self.ids.items():
      if type(i) is not int or not 0 <= i < len(self.tokens):
        raise self.damaged(f'{key}_token_id={i!r} of {len(self.tokens)} tokens')
    if len(self.kinds) != len(self.tokens):
      raise self.damaged(f'{len(self.kinds)} kinds of {len(self.tokens)} tokens')
    if len({*self.tokens}) < len(self.tokens):
      raise self.damaged('a token is there twice')
    self.vocabulary = {token: i for i, token in enumerate(self.tokens)}

  def __call__(self, key: str) -> Any:
    return self._file[f'tokenizer.ggml.{key}']

  def get(self, key: str) -> Any:
    return self._file.metadata.get(f'tokenizer.ggml.{key}')

  def damaged(self, found: Any) -> CheckpointError:
    return CheckpointError(
      f'{self._file.path}: its tokenizer cannot be read ({found}); convert the model '
      'again with a present llama.cpp, or download the file again.'
    )

  @property
  def pre(self) -> str:
    """How byte-level text is split: a key of _SPLITS."""
    named = self('pre')
    name = _ALIASES.get(named, named)
    if name not in _SPLITS:
      raise CheckpointError(
        f'{self._file.path}: tokenizer.ggml.pre={named!r} is not supported, which are '
        f"{', '.join([*_SPLITS, *_ALIASES])}; give the model's folder in the hub's "
        'format.'
      )
    return name

  def _rename(self, tokens: Sequence[str]) -> list[str]:
    """Gemma's runs of spaces, which are text here, as its merges write them."""
    if not self._gemma:
      return list(tokens)
    return [_SPACE * len(t) if t and not t.strip(' ') else t for t in tokens]

  def byte_level(self) -> tokenizers.Tokenizer:
    """Byte pairs, as of GPT-2."""
    merges = [tuple(merge.split(' ')) for merge in self('merges')]
    backend = tokenizers.Tokenizer(
      models.BPE(self.vocabulary, merges, ignore_merges=self.pre in _WHOLE_WORDS)
    )
    if self.pre in _COMPOSED:
      backend.normalizer = normalizers.NFC()
    splits = [
      pre_tokenizers.Split(tokenizers.Regex(split), behavior='isolated')
      for split in _SPLITS[self.pre]
    ]
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, whole])
    backend.decoder = decoders.ByteLevel()
    return backend

  def pieces(self) -> tokenizers.Tokenizer:
    """SentencePiece's byte pairs, as transformers reads those of Llama and Gemma."""
    # Gemma's scores are not in the order of its merges, but its tokens are.
    ranks = range(len(self.tokens)) if self._gemma else [-x for x in self('scores')]
    if len(ranks) != len(self.tokens):
      raise self.damaged(f'{len(ranks)} scores of {len(self.tokens)} tokens')
    unknown = self.ids.get('unknown')
    backend = tokenizers.Tokenizer(
      models.BPE(
        self.vocabulary,
        _merges(self.vocabulary, ranks),
        unk_token=None if unknown is None else self.tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
      )
    )
    prefix = not self._gemma and self.get('add_space_prefix') is not False
    if self._gemma:
      backend.normalizer = normalizers.Replace(' ', _SPACE)
      backend.pre_tokenizer = pre_tokenizers.Split(' ', 'merged_with_previous')
    else:
      backend.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement=_SPACE, prepend_scheme='first' if prefix else 'never', split=False
      )
    strip = [decoders.Strip(content=' ', left=1)] if prefix else []
    backend.decoder = decoders.Sequence(
      [decoders.Replace(_SPACE, ' '), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return backend


def _merges(
  vocabulary: Mapping[str, int], ranks: Sequence[float]
) -> list[tuple[str, str]]:
  """The merges that a vocabulary implies: those that make a token, by its rank."""
  found = []
  for token, rank in zip(vocabulary, ranks):
    for i in range(1, len(token)):
      left, right = token[:i], token[i:]
      if left in vocabulary and right in vocabulary:
        # The longest beginning first, as transformers does.
        order = (rank, -len(left), -len(right), vocabulary[token])
        found.append((order, (left, right)))
  return [merge for _, merge in sorted(found)]


def _add_tokens(backend: tokenizers.Tokenizer, data: _Metadata) -> None:
  """Tokens that are found in a text before anything is merged."""
  named = {data.ids[key] for key in _SPECIAL.values() if key in data.ids}
  for i, (token, kind) in enumerate(zip(data.tokens, data.kinds)):
    special = kind in (_CONTROL, _UNKNOWN) or i in named
    if token and (special or (kind == _USER_DEFINED and token.strip(_SPACE))):
      added = tokenizers.AddedToken(token, normalized=False, special=special)
      add = backend.add_special_tokens if special else backend.add_tokens
      add([added])
  if backend.get_vocab_size() != len(data.tokens):
    raise data.damaged(f'{backend.get_vocab_size()} of {len(data.tokens)} tokens')


def _surround(
  backend: tokenizers.Tokenizer, data: _Metadata, special: Mapping[str, str]
) -> None:
  """Puts the tokens around a text that the metadata want there."""
  pieces = data.kind == 'llama'
  wanted = {'bos': data.get('add_bos_token'), 'eos': data.get('add_eos_token')}
  if wanted['bos'] is None:
    wanted['bos'] = pieces or data.pre == 'llama-bpe'
  bos, eos = (
    [special[f'{name}_token']] if on and f'{name}_token' in special else []
    for name, on in wanted.items()
  )
  if bos or eos:
    backend.post_processor = processors.TemplateProcessing(
      single=[*bos, '$A', *eos],
      pair=[*bos, '$A', *eos, *bos, '$B', *eos],
      special_tokens=[(x, data.vocabulary[x]) for x in {*bos, *eos}],
    )
