"""How byte-level tokenizers split a text before they merge: what `tokenizer.ggml.pre` names, as llama.cpp splits.

Patterns are in Oniguruma's language, which the `tokenizers` library speaks. Each is applied to the pieces that the one
before it left, and what lies between two matches is a piece too. Where llama.cpp's pattern is not that of the model's
own tokenizer (it knows no cases of letters beyond ASCII), llama.cpp's is kept: it is what the file was made for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastserve_runtime.errors import UsageError

_SUFFIXES = r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LLAMA3 = rf"{_SUFFIXES}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_BLANKS}"
_QWEN2 = rf"{_SUFFIXES}|{_WORD}|\p{{N}}|{_SIGNS}|{_BLANKS}"
_DIGIT = r"\p{N}"
_UP_TO_THREE = r"\p{N}{1,3}"
_NO_SMALL, _NO_CAPITAL = r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_NO_SMALL}*{_NO_CAPITAL}+",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_NO_SMALL}+{_NO_CAPITAL}*",
)
_PATHS = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
# Where a pattern names no category, llama.cpp takes blanks beyond ASCII for others.
_CJK = r"[\x{800}-\x{9FA5}\x{AC00}-\x{D7FF}&&\S]+"
_KANA = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+"
_ASCII_SIGNS = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
_DEEPSEEK3 = (
    rf"{_ASCII_SIGNS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BLANKS}"
)
_BLOOM = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"
_CASED_LETTERS = (
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376-377 37B-37D 37F 386 388-38A 38C 38E-3A1 "
    "3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A "
    "1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 "
    "1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 "
    "212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183-2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2-2CF3 A640-A66D "
    "A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F "
    "104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943"
)


def _class(ranges: str) -> str:
    """Return the members of a class of signs, given as ranges of code points."""
    return "".join("-".join(rf"\x{{{end}}}" for end in part.split("-")) for part in ranges.split())


@dataclass(frozen=True)
class Split:
    """One way to split.

    Attributes:
        patterns: regular expressions, in the order in which they are applied.
        takes_whole_words: whether a piece that is a token is taken as it is, whatever its merges would make of it.
        begins: whether a text begins with the token for that where the file says nothing of it.
    """

    patterns: tuple[str, ...]
    takes_whole_words: bool = False
    begins: bool = False


_KINDS: Mapping[Split, tuple[str, ...]] = {
    Split((_GPT2,)): (
        "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum",
        "modern-bert", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4",
    ),
    Split((_LLAMA3,), takes_whole_words=True, begins=True): (
        "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    ),
    Split((_LLAMA3,)): ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"),
    Split((_QWEN2,)): (
        "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2",
    ),
    Split((_DIGIT, _GPT2)): (
        "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2",
    ),
    Split(("|".join((*_CASED, _DIGIT, _PATHS)),), takes_whole_words=True, begins=True): ("tekken",),
    Split(("|".join((*(f"{word}(?:{_SUFFIXES})?" for word in _CASED), _UP_TO_THREE, _PATHS)),)): (
        "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2",
    ),
    Split(
        (
            r"[\r\n]",
            rf"\s?[{_class(_CASED_LETTERS)}]+",
            rf"\s?[{_class('21-2F 3A-7E FF01-FF0F FF1A-FF5E 2018-201F 3001-3002')}]+",
            r"\s+$",
            _CJK,
            r"\p{N}+",
        )
    ): ("deepseek-llm",),
    Split((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, _DIGIT)): ("deepseek-coder",),
    Split((_UP_TO_THREE, _KANA, _DEEPSEEK3)): ("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"),
    Split((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")): ("falcon",),
    Split((_BLOOM,)): ("bloom", "gpt3-finnish", "poro-chat"),
    Split((_BLOOM, _DIGIT)): ("viking",),
    Split((rf"{_SUFFIXES}|{_WORD}|\p{{N}}|{_SIGNS}|\s*[\r\n]|\s+(?!\S)|\s+",)): (
        "bailingmoe", "bailingmoe2", "llada-moe",
    ),
    Split((rf"{_SUFFIXES}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_BLANKS}",)): ("seed-coder",),
    Split((_UP_TO_THREE, rf"{_SUFFIXES}|{_WORD}|\p{{N}}+|{_SIGNS}|{_BLANKS}"), takes_whole_words=True): ("minicpm5",),
    Split((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")): ("default",),
}  # fmt: skip
SPLITS: Mapping[str, Split] = {name: split for split, names in _KINDS.items() for name in names}
"""By the names that llama.cpp's converters write."""
WITHOUT_NAME = "default"
"""What llama.cpp takes where a file names none."""


def split_named(name: str, file: str) -> Split:
    """Return how to split.

    Args:
        name: what `tokenizer.ggml.pre` says.
        file: the file's name, for the message.

    Raises:
        UsageError: it is not supported.
    """
    if name not in SPLITS:
        raise UsageError(
            f"The GGUF file '{file}' has a tokenizer that splits texts in the way '{name}', which is not supported.",
            f"Supported are {', '.join(sorted(SPLITS))}.",
        )
    return SPLITS[name]
