"""Prompts and conversations to tokens, with the `tokenizers` library and the checkpoint's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.raw_inputs import PROMPTS, tokenizable
from fastserve_runtime.errors import BundleError, InputError, UsageError
from fastserve_runtime.generation.chat_template import ChatTemplate
from fastserve_runtime.generation.grammar import Grammar, GrammarCompiler, GrammarConstraint
from fastserve_runtime.generation.processor_settings import ProcessorSettings
from fastserve_runtime.generation.sampling import Sampling
from fastserve_runtime.generation.traces import PROMPT, TOKENS
from fastserve_runtime.parsing import Fields
from fastserve_runtime.sessions.token_ids import vocabulary_size
from fastserve_runtime.tokenizer_library import open_tokenizer

if TYPE_CHECKING:
    from fastserve_runtime.bundle.golden import Golden
    from fastserve_runtime.bundle.raw_inputs import Text

KIND = PROMPTS
LOGITS_PROCESSORS = "logits_processors"
Message = Mapping[str, Any]


@dataclass(frozen=True)
class TemplateOptions:
    """How a conversation is rendered.

    Attributes:
        add_generation_prompt: whether the model's answer is begun.
        continue_final_message: whether the model goes on with the last message instead.
        values: more values for the template, such as `tools` or `enable_thinking`.
    """

    add_generation_prompt: bool = True
    continue_final_message: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.add_generation_prompt and self.continue_final_message:
            raise UsageError(
                "An answer cannot be begun where the last message is continued.",
                "Set add_generation_prompt to false, or leave continue_final_message out.",
            )
        own = sorted({"messages", "add_generation_prompt", "continue_final_message"} & self.values.keys())
        if own:
            raise UsageError(f"'{own[0]}' is no value for the chat template.", "Set it beside the template's values.")


_ANSWERED = TemplateOptions()


@dataclass(frozen=True)
class PromptSettings:
    """How prompts are made, and how their continuations end.

    Attributes:
        context: how many tokens the model takes, prompt and new ones together.
        beginning: the id that a text begins with, None if the model has none.
        ends: ids that end a text.
        special_tokens: name → text, as chat templates use them: `bos_token`, `eos_token`, ...
        chat_template: the checkpoint's Jinja template, None if it is no chat model.
        tool_template: the template that takes its place where tools are offered, None where the same does for both.
        sampling: what the checkpoint advises.
        vocabulary_size: how many ids the model knows, which may be fewer than the tokenizer has; None where unknown.
        logits_processors: what changes the scores of tokens, as the checkpoint asks for.
    """

    context: int
    beginning: int | None = None
    ends: tuple[int, ...] = ()
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    chat_template: str | None = None
    tool_template: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    vocabulary_size: int | None = None
    logits_processors: ProcessorSettings = field(default_factory=ProcessorSettings)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PromptSettings:
        """Read the settings of a manifest's preprocessing.

        Raises:
            BundleError: one is missing or of the wrong type.
        """
        fields = Fields(dict(document), "preprocessing.settings")
        beginning, ends = document.get("beginning"), document.get("ends")
        templates = {name: document.get(name) for name in ("chat_template", "tool_template")}
        special = document.get("special_tokens", {})
        is_sound = (
            (beginning is None or isinstance(beginning, int))
            and isinstance(ends, list)
            and all(isinstance(e, int) for e in ends)
            and all(template is None or isinstance(template, str) for template in templates.values())
            and isinstance(special, dict)
        )
        if not is_sound:
            raise BundleError("The bundle's settings for prompts are damaged.", "Export the bundle again.")
        try:
            sampling = Sampling(**document.get("sampling", {}))
        except (TypeError, UsageError) as error:
            raise BundleError(f"The bundle's sampling settings are damaged: {error}") from error
        assert isinstance(ends, list)
        return cls(
            context=fields.count("context"),
            beginning=beginning,
            ends=tuple(ends),
            special_tokens=special,
            **templates,
            sampling=sampling,
            vocabulary_size=vocabulary_size(document),
            logits_processors=ProcessorSettings.from_document(document.get(LOGITS_PROCESSORS, {})),
        )

    def template(self, *, has_tools: bool) -> str | None:
        """Return the template of a conversation in which tools are offered, or of one without."""
        return (self.tool_template if has_tools else None) or self.chat_template


class PromptTokenizer:
    """Makes tokens of prompts and conversations, and text of tokens."""

    def __init__(self, tokenizer_json: bytes, settings: PromptSettings) -> None:
        """Open a tokenizer.

        Raises:
            EnvironmentFailure: the `tokenizers` library is not installed.
            BundleError: the tokenizer or the chat template is damaged.
        """
        self.tokenizer = open_tokenizer(tokenizer_json)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.settings = settings
        self._grammars: GrammarCompiler | None = None
        self._templates = {
            source: ChatTemplate(source, settings.special_tokens)
            for source in (settings.chat_template, settings.tool_template)
            if source is not None
        }

    def encode(self, prompt: str | Sequence[Message], options: TemplateOptions = _ANSWERED) -> list[int]:
        """Return the tokens of a text to be continued, or of a conversation to be answered.

        Args:
            prompt: the text, or the messages.
            options: how messages are rendered.

        Raises:
            InputError: the messages are none, or the template refuses them.
            UsageError: the model has no chat template.
        """
        if isinstance(prompt, str):
            return list(self.tokenizer.encode(tokenizable(prompt)).ids)
        source = self.settings.template(has_tools=bool(options.values.get("tools")))
        if source is None:
            raise UsageError("The model has no chat template.", "Give it a text to continue rather than messages.")
        text = self._templates[source].render(
            prompt,
            options.add_generation_prompt,
            continue_final_message=options.continue_final_message,
            **options.values,
        )
        # The template writes special tokens itself.
        return list(self.tokenizer.encode(tokenizable(text), add_special_tokens=False).ids)

    def check_known(self, tokens: Sequence[int], vocabulary: int) -> None:
        """Refuse tokens that the tokenizer has and the model has not, such as those of pictures in a model of text.

        Args:
            tokens: of a prompt.
            vocabulary: the model's ids are those below this.

        Raises:
            InputError: naming the first such token.
        """
        beyond = next((token for token in tokens if token >= vocabulary), None)
        if beyond is not None:
            text = f"{self.tokenizer.id_to_token(beyond)!r:.60}"
            raise InputError(
                f"The prompt has the token {text} with the id {beyond}; the model has the ids 0 to {vocabulary - 1}.",
                "Leave it out of the prompt.",
            )

    def constraint(self, grammar: Grammar) -> GrammarConstraint:
        """Return what keeps a text to a grammar.

        Raises:
            GrammarRefused: the grammar is wrong, or has what cannot be enforced.
            EnvironmentFailure: llguidance is not installed, or does not know this kind of tokenizer.
        """
        if self._grammars is None:
            self._grammars = GrammarCompiler(self.tokenizer.to_str(), self.settings.ends)
        return self._grammars.constraint(grammar)

    def raw_inputs(self, golden: Golden) -> list[Text]:
        """Return a golden's prompts; see `Preprocessor`."""
        return golden.samples

    def differing(self, golden: Golden) -> list[str]:
        """Return the names of inputs of traces (see `traces`), made of prompts before, that do not begin with them now.

        An empty text stands for the token that texts begin with.
        """
        empty = [] if self.settings.beginning is None else [self.settings.beginning]
        inputs = golden.inputs
        rows = zip(map(str, golden.samples), inputs[TOKENS], inputs[PROMPT], strict=True)
        equal = all((self.encode(text) or empty) == tokens[: int(count)].tolist() for text, tokens, count in rows)
        return [] if equal else [TOKENS]
