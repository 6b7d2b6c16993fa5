"""One program that generates text, in a process of its own: it does what lines on its standard input ask for.

    python -m generating.contender KIND MODEL THREADS CONTEXT

Lines are JSON lists: `["prefill", tokens]` answers the seconds, by the clock and of the processor, from an empty cache
to the first token; `["decode", tokens, count]` those of so many further tokens behind a prompt, always the likeliest;
`["score", file]` the log-probability of each token behind the prompts of traces, lists of tokens and how many of them
are fed at once; `["memory"]` the peak of the process, in bytes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from fastserve_runtime.measurement.memory import read_memory

Seconds = tuple[float, float]


class Contender(Protocol):
    """What each kind of program does."""

    def prefill(self, tokens: list[int]) -> Seconds:
        """Return the seconds from an empty cache to the first token."""

    def decode(self, tokens: list[int], count: int) -> Seconds:
        """Return the seconds of so many tokens behind the first one behind a prompt."""

    def score(self, tokens: list[int], prompt: int) -> list[float | None]:
        """Return the log-probabilities of the tokens behind a prompt, each behind those before it; None: not told."""


class Ours:
    """FastServe's runtime: a variant of a bundle."""

    def __init__(self, model: str, threads: int, context: int) -> None:
        from fastserve_runtime.bundle.reader import open_bundle
        from fastserve_runtime.pipelines.text_generation.pipeline import open_decoder
        from fastserve_runtime.variants import open_variant, usable_engine

        location, _, variant = model.rpartition("#")
        self._bundle = open_bundle(location)
        chosen = self._bundle.manifest.variant(variant)
        session = open_variant(self._bundle, chosen, usable_engine(chosen), threads=threads)
        self._decoder = open_decoder(session, context)

    def prefill(self, tokens: list[int]) -> Seconds:
        """See `Contender`."""
        self._decoder.rewind(0)
        return timed(lambda: int(self._decoder.feed(tokens).argmax()))

    def decode(self, tokens: list[int], count: int) -> Seconds:
        """See `Contender`."""
        from fastserve_runtime.generation.sampling import Sampler, Sampling
        from fastserve_runtime.generation.token_loop import TokenLoop

        loop = TokenLoop(self._decoder)
        self._decoder.rewind(0)
        produced = loop.run(tokens, Sampler(Sampling()), maximum=count + 1)
        next(produced)

        def rest() -> None:
            for _ in produced:
                pass

        return timed(rest)

    def score(self, tokens: list[int], prompt: int) -> list[float | None]:
        """See `Contender`."""
        from fastserve_runtime.generation.traces import log_softmax

        self._decoder.rewind(0)
        found: list[float | None] = []
        fed = 0
        for position in range(prompt - 1, len(tokens) - 1):
            scores = self._decoder.feed(tokens[fed : position + 1])
            fed = position + 1
            found.append(float(log_softmax(scores)[tokens[fed]]))
        return found


class GenAI:
    """ONNX Runtime GenAI: a folder with `genai_config.json`."""

    def __init__(self, model: str, threads: int, context: int) -> None:
        import onnxruntime_genai as og

        self._og, self._context = og, context
        config = og.Config(model)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._model = og.Model(config)

    def _generator(self, *, prompt: list[int]) -> Any:
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(max_length=self._context, do_sample=False, min_length=self._context)
        generator = self._og.Generator(self._model, parameters)
        generator.append_tokens(prompt)
        return generator

    def prefill(self, tokens: list[int]) -> Seconds:
        """See `Contender`."""
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(max_length=self._context, do_sample=False)
        generator = self._og.Generator(self._model, parameters)

        def first() -> None:
            generator.append_tokens(tokens)
            generator.generate_next_token()

        return timed(first)

    def decode(self, tokens: list[int], count: int) -> Seconds:
        """See `Contender`."""
        generator = self._generator(prompt=tokens)
        generator.generate_next_token()

        def rest() -> None:
            for _ in range(count):
                generator.generate_next_token()

        return timed(rest)

    def score(self, tokens: list[int], prompt: int) -> list[float | None]:
        """See `Contender`."""
        import numpy as np

        from fastserve_runtime.generation.traces import log_softmax

        generator = self._generator(prompt=tokens[:prompt])
        found: list[float | None] = []
        for position in range(prompt, len(tokens)):
            scores = np.asarray(generator.get_logits())[0, -1]
            found.append(float(log_softmax(scores)[tokens[position]]))
            if position < len(tokens) - 1:
                generator.append_tokens(tokens[position : position + 1])
        return found


class LlamaCpp:
    """llama.cpp, by the server that `xllamacpp` runs in this process: a GGUF file. Times are those it reports."""

    def __init__(self, model: str, threads: int, context: int) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = model
        parameters.n_ctx = context
        parameters.n_parallel = 1
        parameters.n_gpu_layers = 0
        parameters.warmup = True
        parameters.verbosity = -1
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            cpu.n_threads = threads
        self._server = xllamacpp.Server(parameters)

    def _complete(self, prompt: list[int], count: int, **more: Any) -> dict[str, Any]:
        request = {"prompt": prompt, "n_predict": count, "temperature": 0.0, "ignore_eos": True, **more}
        answer = self._server.handle_completions(request)
        found: dict[str, Any] = json.loads(answer) if isinstance(answer, str) else answer
        return found

    def prefill(self, tokens: list[int]) -> Seconds:
        """See `Contender`."""
        cpu = time.process_time()
        timings = self._complete(tokens, 1, cache_prompt=False)["timings"]
        if timings["prompt_n"] != len(tokens):
            raise ValueError(f"{timings['prompt_n']} tokens were computed, not {len(tokens)}")
        return timings["prompt_ms"] / 1e3, time.process_time() - cpu

    def decode(self, tokens: list[int], count: int) -> Seconds:
        """See `Contender`."""
        # The first token comes with the prompt; its processor seconds are taken off by a run of that alone.
        cpu = time.process_time()
        self._complete(tokens, 1, cache_prompt=False)
        alone = time.process_time() - cpu
        cpu = time.process_time()
        timings = self._complete(tokens, count + 1, cache_prompt=False)["timings"]
        whole = time.process_time() - cpu
        # Its clock starts when the first token is there.
        if timings["predicted_n"] != count + 1:
            raise ValueError(f"{timings['predicted_n']} tokens were generated, not {count + 1}")
        return timings["predicted_ms"] / 1e3, max(whole - alone, 1e-9)

    def score(self, tokens: list[int], prompt: int) -> list[float | None]:
        """See `Contender`."""
        found: list[float | None] = []
        for position in range(prompt, len(tokens)):
            wanted = tokens[position]
            answer = self._complete(
                tokens[:position],
                1,
                cache_prompt=True,
                n_probs=1,
                logit_bias=[[wanted, 1e4]],
                post_sampling_probs=False,
            )
            told = answer["choices"][0]["logprobs"]
            if told is None:  # the server keeps back what is not yet a whole character
                found.append(None)
                continue
            (token,) = told["content"]
            if token["id"] != wanted:
                raise ValueError(f"token {token['id']} was taken, not {wanted}")
            found.append(float(token["logprob"]))
        return found


KINDS: dict[str, Callable[[str, int, int], Contender]] = {"ours": Ours, "genai": GenAI, "llama.cpp": LlamaCpp}


def timed(work: Callable[[], object]) -> Seconds:
    """Return the seconds of some work, by the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main(arguments: list[str]) -> None:
    kind, model, threads, context = arguments
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    contender = KINDS[kind](model, int(threads), int(context))
    for line in sys.stdin:
        question, *values = json.loads(line)
        if question == "memory":
            answer: Any = read_memory().peak
        elif question == "score":
            answer = score_traces(contender, Path(values[0]))
        else:
            answer = getattr(contender, question)(*values)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def score_traces(contender: Contender, file: Path) -> list[float | None]:
    """Return the log-probabilities of all tokens that follow in the traces of a file."""
    found: list[float | None] = []
    for tokens, prompt in json.loads(file.read_text()):
        found += contender.score(tokens, prompt)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
