"""A conversation in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from fastserve_runtime.cli.dialogue import Dialogue
from fastserve_runtime.cli.generation_summary import summary
from fastserve_runtime.cli.line_input import ReadLine, line_reader, read_message
from fastserve_runtime.cli.stop_requests import stopped_by_ctrl_c
from fastserve_runtime.cli.streams import ShownText, is_terminal, printable, show, tell
from fastserve_runtime.errors import EXIT_INTERRUPTED, EXIT_OK, UsageError
from fastserve_runtime.failure import failure_of
from fastserve_runtime.generation.context import PromptTooLong
from fastserve_runtime.processes.interruption import answer_ctrl_c

PROMPT, MORE = "> ", "... "
HELP = """\
/exit         End; so does Ctrl-D.
/reset        Forget the conversation.
/save FILE    Save the conversation with what the model has computed of it.
/load FILE    Go on from there.
/help         Show this.
A message goes on in the next line where a line ends with \\. One that begins with / is typed with //.
Ctrl-C stops an answer; the conversation goes on."""
_CUT = {
    "cancelled": "(stopped)",
    "length": "(cut off by --max-new-tokens)",
    "context": "(cut off by the end of the context; /reset begins anew)",
}


def chat(dialogue: Dialogue) -> int:
    """Talk until the end of the input, `/exit` or Ctrl-C at the prompt, and return the exit code.

    What can be mended by another message is told, and the conversation goes on. With a session file, the conversation
    is saved at the end.

    Args:
        dialogue: the conversation.

    Raises:
        BundleError: the chat template is damaged.
        EnvironmentFailure: the engine failed.
        OSError: an answer or the session cannot be written.
    """
    if is_terminal(sys.stdin):
        tell("/help shows the commands, /exit ends.")
    code = EXIT_OK
    try:
        _talk(dialogue, line_reader())
    except KeyboardInterrupt:
        answer_ctrl_c()
        tell("")
        code = EXIT_INTERRUPTED
    if dialogue.options.session is not None:
        dialogue.save(dialogue.options.session)
    return code


def _talk(dialogue: Dialogue, read_line: ReadLine) -> None:
    while (message := read_message(read_line, PROMPT, MORE)) is not None:
        if message.startswith("/") and not message.startswith("//"):
            name, _, argument = message[1:].partition(" ")
            if name == "exit":
                return
            try:
                _obey(dialogue, name, argument.strip())
            except (UsageError, OSError) as error:
                _tell_of(error)
        elif message.strip() and not _answer(dialogue, message.removeprefix("/")):
            return


def _obey(dialogue: Dialogue, name: str, argument: str) -> None:
    if name == "help":
        tell(HELP)
    elif name == "reset":
        dialogue.reset()
        tell("The conversation is forgotten.")
    elif name not in ("save", "load"):
        raise UsageError(f"There is no command '/{name}'.", "/help shows them.")
    elif not argument:
        raise UsageError(f"/{name} needs a file.", f"Type /{name} FILE.")
    elif name == "save":
        dialogue.save(Path(argument))
        tell(f"Saved to {printable(argument)}.")
    else:
        dialogue.restore(Path(argument))
        tell(f"Going on from {printable(argument)}, {len(dialogue.messages)} messages.")


def _answer(dialogue: Dialogue, message: str) -> bool:
    """Show the answer to a message, and return whether somebody still reads."""
    shown = ShownText()
    try:
        with stopped_by_ctrl_c() as is_stopped:
            for piece in dialogue.pieces(message, is_cancelled=lambda: is_stopped() or not shown.is_read):
                shown.add(piece)
    except PromptTooLong as error:
        tell(printable(error.problem))
        tell("/reset begins a new conversation; with --overflow window, the oldest turns leave it.")
        return True
    except UsageError as error:
        _tell_of(error)
        return True
    show("")
    result = dialogue.result
    if result is not None and result.finish_reason in _CUT:
        tell(_CUT[result.finish_reason])
    if result is not None and dialogue.options.verbose:
        tell(summary(result, dialogue.pipeline.reused_tokens))
    return shown.is_read


def _tell_of(error: Exception) -> None:
    failure = failure_of(error)
    tell(" ".join(printable(part) for part in (failure.problem, failure.remedy) if part))
