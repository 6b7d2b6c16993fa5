from fastserve_runtime.generation.conversation import answered, asked, fitted, with_system


def turns(count, *, system=""):
    messages = with_system((), system) if system else ()
    for number in range(count):
        messages = answered(asked(messages, f"q{number}"), f"a{number}")
    return messages


def contents(messages):
    return [message["content"] for message in messages]


def test_a_system_message_stands_first_and_once():
    assert contents(with_system(turns(1), "be kind")) == ["be kind", "q0", "a0"]
    assert contents(with_system(turns(1, system="be kind"), "be short")) == ["be short", "q0", "a0"]
    assert contents(with_system((), "be kind")) == ["be kind"]


def test_roles_are_those_that_templates_know():
    assert [message["role"] for message in turns(1, system="x")] == ["system", "user", "assistant"]


def test_a_conversation_that_fits_stays():
    assert fitted(turns(3), len, 6) == (turns(3), 0)


def test_the_oldest_turns_go_first():
    messages, dropped = fitted(asked(turns(3, system="s"), "now"), len, 4)
    assert (contents(messages), dropped) == (["s", "q2", "a2", "now"], 2)


def test_the_last_turn_stays_even_if_it_does_not_fit():
    messages, dropped = fitted(asked(turns(3, system="s"), "now"), len, 0)
    assert (contents(messages), dropped) == (["s", "now"], 3)


def test_answers_without_a_question_go_with_the_first_turn():
    greeting = answered((), "welcome")
    messages, dropped = fitted(asked(greeting, "now"), len, 1)
    assert (contents(messages), dropped) == (["now"], 1)
    assert fitted((), len, -1) == ((), 0)
