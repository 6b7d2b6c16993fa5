"""Text comes out of prompts and conversations, piece by piece."""

from __future__ import annotations

import pytest

from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer
from fastserve_runtime.loading import open_model
from fastserve_runtime.pipelines.text_generation import open_pipeline

CONTEXT = 64
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


@pytest.fixture
def open_text(decoder_file, byte_tokenizer):
    opened = []

    def make(**settings):
        tokenizer = PromptTokenizer(byte_tokenizer.to_str().encode(), PromptSettings(CONTEXT, **settings))
        opened.append(open_pipeline(open_model(decoder_file), tokenizer, {}))
        return opened[-1]

    yield make
    for pipeline in opened:
        pipeline.close()


@pytest.fixture
def pipeline(open_text):
    return open_text(chat_template=TEMPLATE)


def ids(tokenizer, text):
    return tokenizer.encode(text).ids


def test_the_pieces_are_the_likeliest_continuation(pipeline, byte_tokenizer, greedy) -> None:
    stream = pipeline.stream("Once upon", max_new_tokens=12)
    pieces = list(stream)
    wanted = greedy(ids(byte_tokenizer, "Once upon"), 12)
    result = stream.result
    assert result.tokens == tuple(wanted)
    assert "".join(pieces) == result.text
    assert (result.finish_reason, result.prompt_tokens) == ("length", 9)
    assert result.first_token_seconds > 0
    assert pipeline("Once upon", max_new_tokens=12).text == result.text
    both = pipeline(["Once upon", "A"], max_new_tokens=3)
    assert [g.tokens for g in both] == [tuple(wanted[:3]), tuple(greedy(ids(byte_tokenizer, "A"), 3))]


def test_nothing_is_told_before_the_end(pipeline) -> None:
    stream = pipeline.stream("Once upon", max_new_tokens=40)
    next(stream)
    assert stream.result is None


def test_a_conversation_goes_through_the_template(pipeline, byte_tokenizer, greedy) -> None:
    answer = pipeline.generate([{"role": "user", "content": "Hi"}], max_new_tokens=4)
    assert answer.tokens == tuple(greedy(ids(byte_tokenizer, "<user>Hi<a>"), 4))
    with pytest.raises(InputError, match="role"):
        pipeline.generate([{"role": "wizard", "content": "Hi"}])


def test_a_model_without_template_takes_no_conversation(open_text) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        open_text().generate([{"role": "user", "content": "Hi"}])


def test_a_stop_string_ends_the_text_before_it(pipeline) -> None:
    whole = pipeline.generate("Once upon", max_new_tokens=30).text
    stop = whole[8:11]
    cut = pipeline.generate("Once upon", max_new_tokens=30, stop=stop)
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"
    assert len(cut.tokens) < 30


def test_an_end_token_ends_the_text_and_gives_none(open_text, pipeline) -> None:
    tokens = pipeline.generate("Once upon", max_new_tokens=9).tokens
    end = tokens[5]
    ended = open_text(ends=(end,)).generate("Once upon", max_new_tokens=9)
    assert ended.finish_reason == "stop"
    assert ended.tokens == tokens[: tokens.index(end) + 1]


def test_the_end_of_the_context_is_told(pipeline) -> None:
    prompt = "x" * 60
    assert pipeline.generate(prompt, max_new_tokens=30).finish_reason == "context"
    assert pipeline.generate(prompt, max_new_tokens=4).finish_reason == "length"
    with pytest.raises(InputError, match="70"):
        pipeline.generate("x" * 70)
    windowed = pipeline.generate("y" * 10 + "x" * 60, max_new_tokens=14, overflow="window")
    assert (windowed.finish_reason, windowed.prompt_tokens) == ("length", 50)
    with pytest.raises(InputError):
        pipeline.generate("")


def test_a_seed_gives_the_same_text_again(pipeline) -> None:
    options = {"temperature": 50.0, "max_new_tokens": 12}
    first, again, other = (pipeline.generate("Once upon", seed=s, **options).tokens for s in (1, 1, 2))
    assert first == again != other


def test_what_the_checkpoint_advises_is_the_default(open_text) -> None:
    settings = {"context": CONTEXT, "ends": [], "sampling": {"temperature": 50.0, "seed": 3}}
    sampling = PromptSettings.from_document(settings).sampling
    advised = open_text(sampling=sampling)
    likeliest = advised.generate("Once upon", max_new_tokens=12, temperature=0)
    assert advised.generate("Once upon", max_new_tokens=12).tokens != likeliest.tokens


def test_a_caller_may_cancel_or_leave(pipeline) -> None:
    whole = pipeline.generate("Once upon", max_new_tokens=20)
    pieces: list[str] = []
    stream = pipeline.stream("Once upon", max_new_tokens=20, is_cancelled=lambda: len(pieces) >= 4)
    for piece in stream:
        pieces.append(piece)  # noqa: PERF402 -- the condition looks at it
    assert stream.result.finish_reason == "cancelled"
    left = pipeline.stream("Once upon", max_new_tokens=20)
    next(left)
    del left
    assert pipeline.generate("Once upon", max_new_tokens=20).tokens == whole.tokens


def test_wrong_settings_are_named(pipeline) -> None:
    with pytest.raises(UsageError, match="temperature"):
        pipeline.generate("Once", temperature=-1.0)
    with pytest.raises(UsageError):
        pipeline.generate("Once", max_new_tokens=0)
