# ruff: noqa: E501 -- templates are written as checkpoints have them

import contextlib
import sys
import threading
import time
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve_runtime.errors import BundleError, EnvironmentFailure, InputError, UsageError
from fastserve_runtime.generation.chat_template import MAX_SOURCE, ROLES, ChatTemplate

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM<|im_end|>\\n' }}
{%- endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA_2 = """{% if messages[0]['role'] == 'system' %}
  {% set loop_messages = messages[1:] %}
  {% set system_message = messages[0]['content'] %}
{% else %}
  {% set loop_messages = messages %}
  {% set system_message = false %}
{% endif %}
{% for message in loop_messages %}
  {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
  {% endif %}
  {% if loop.index0 == 0 and system_message != false %}
    {% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
  {% else %}
    {% set content = message['content'] %}
  {% endif %}
  {% if message['role'] == 'user' %}
    {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' -}}
  {% elif message['role'] == 'assistant' %}
    {{- ' '  + content.strip() + ' ' + eos_token -}}
  {% endif %}
{% endfor %}"""

LLAMA_3 = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- system_message }}{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", ' }}{{- '"parameters": ' }}{{- tool_call.arguments | tojson }}{{- "}" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{%- if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

MISTRAL = """{%- set ns = namespace(system='', index=0) %}
{%- for message in messages if message.role == 'system' %}{%- set ns.system = ns.system ~ message.content ~ '\\n' %}{%- endfor %}
{%- set rest = messages | rejectattr('role', 'equalto', 'system') | list %}
{{- bos_token }}
{%- for message in rest %}
  {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
    {{- raise_exception("After the optional system message, roles must alternate") }}
  {%- endif %}
  {%- set ns.index = ns.index + 1 %}
  {%- if message["role"] == "user" %}
    {%- if loop.last and ns.system %}{{- "[INST] " + ns.system + "\\n" + message["content"] + "[/INST]" }}
    {%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
  {%- else %}{{- " " + message["content"] + eos_token}}{%- endif %}
{%- endfor %}"""

KITCHEN_SINK = """{% macro turn(m, i) %}<{{ m.role|upper }} {{ i }}>{{ caller() if caller }}{% endmacro %}
{% for m in messages recursive %}
{% if loop.length > 5 and loop.revindex > 4 %}{% continue %}{% endif %}
{% call turn(m, loop.index) %}{{ m.content.replace('a', 'b').split(' ')|join('_') }}{% endcall %}
{{ loop.previtem.role if loop.previtem is defined }} {{ loop.cycle('x', 'y') }} {{ loop.changed(m.role) }}
{% if loop.last %}{% break %}{% endif %}
{% endfor %}
{% set text %}  {{ messages|map(attribute='content')|join(', ')|truncate(300) }}{% endset %}{{ text|trim|indent(2) }}
{{ messages|groupby('role')|map('first')|list }} {{ {'a': [1, 2.5, none, true], 'b': ('x', 'ü')} | tojson }}
{{ {'b': 1, 'a': '<&>'} | tojson(indent=2, sort_keys=true) }} {{ '<b>'|e }} {{ undefined_name|default('d') }}{{ nothing }}
{{ [3, 1, 2]|sort|reverse|list }} {{ range(2, 10, 3)|list }} {{ [1, 2, 3, 4, 5]|batch(2)|list }} {{ [1, 2]|sum }}
{{ '%s has %d of %5.1f%%' % ('x', 3, 4.5) }} {{ '%05d'|format(42) }} {{ '{} {b:>4} {b!r}'.format('q', b=2) }}
{{ 'abc'[::-1] }}{{ 'abc'|list }}{{ 'ab' * 3 }}{{ 2 ** 10 }}{{ 7 // 2 }}{{ -7 % 3 }}{{ 1 ~ 'x' ~ none }}{{ messages[-1:]|length }}
{{ dict(a=1).items()|list }}{{ {'k': 'v'}.get('k') }}{{ 'a-b'.partition('-') }}{{ 'x'.center(5, '*') }}{{ 'x'|center(5) }}
{% generation %}{{ 'Title case'.title() }}{% endgeneration %}{% filter upper %}shout{% endfilter %}
{{ strftime_now('%Y') }}{{ messages|selectattr('role', 'in', ['user', 'tool'])|list|length }}{{ 3.7|round|int }}{{ 'a' in 'cab' }}
{% for k, v in {'z': 1, 'y': 2}|dictsort %}{{ k }}={{ v }};{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}
{{ '<x>'|safe }}{{ [1, 2, 2]|unique|list }}{{ ['a', 'B']|map('upper')|join }}{{ 'ab'|replace('a', 'c') }}{{ ' '|wordcount }}"""

USER = {"role": "user", "content": "  Hello a 'world' <b> ü 😀 "}
ASSISTANT = {"role": "assistant", "content": "Hi!\n"}
SYSTEM = {"role": "system", "content": "Be brief."}


def by_transformers(template, messages, add_generation_prompt, **extra):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **TOKENS)
    text: str = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=add_generation_prompt, **extra
    )
    return text


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize(
    "messages",
    [[USER], [USER, ASSISTANT, USER], [SYSTEM, USER], [SYSTEM, USER, ASSISTANT, USER, ASSISTANT, USER, ASSISTANT]],
    ids=["one", "three", "system", "many"],
)
@pytest.mark.parametrize("template", [CHATML, LLAMA_2, LLAMA_3, GEMMA, MISTRAL, KITCHEN_SINK])
def test_texts_and_refusals_are_those_of_transformers(template, messages, add_generation_prompt):
    from jinja2 import TemplateError

    ours = ChatTemplate(template, TOKENS)
    try:
        expected = by_transformers(template, messages, add_generation_prompt)
    except TemplateError as error:
        with pytest.raises(InputError, match=f"refuses the conversation: {str(error).rstrip('.')}"):
            ours.render(messages, add_generation_prompt)
    else:
        assert ours.render(messages, add_generation_prompt) == expected


def test_tools_and_other_values_reach_the_template():
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "ü": [1, None]}}}]
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    messages = [USER, {**ASSISTANT, "tool_calls": [call]}, {"role": "tool", "content": "3"}]
    extra = {"tools": tools, "date_string": "1 May 2025"}
    expected = by_transformers(LLAMA_3, messages, True, **extra)
    assert "1 May 2025" in expected
    assert ChatTemplate(LLAMA_3, TOKENS).render(messages, **extra) == expected


def rendered(source, messages=(USER,), **limits):
    return ChatTemplate(source, TOKENS, **limits).render(list(messages))


LONG = "'a' * 1000000"
ENDLESS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "in a block": "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}ab{% endfor %}{% endfor %}{% endset %}",
    "blocks": "{% for i in range(99999) %}{% for j in range(9999) %}{% set x %}a{% endset %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "tests": f"{{% set b = {LONG} %}}{{{{ range(99999)|map('string')|select('in', b)|list|length }}}}",
    "filters": "{{ range(99999)|map('string')|map('replace', '', 'a' * 9000)|map('length')|select('odd')|sum }}",
    "recursive": "{% for m in [1, 2] recursive %}{% if loop.depth < 60 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_end_is_ended(source):
    template = ChatTemplate(source, max_seconds=0.3)
    began = time.monotonic()
    with pytest.raises(
        BundleError, match=r"The chat template (does not end within 0\.3 seconds|makes values) .*line 1"
    ):
        template.render([USER])
    assert time.monotonic() - began < 2


HUGE = {
    "repetition": "{{ 'a' * 10**9 }}",
    "repetition from the left": "{{ 10**9 * 'a' }}",
    "repeated list": "{{ [1] * 10**9 }}",
    "power": "{{ 10**(10**8) }}",
    "product": "{% set a = 2**4000 %}{{ a * a }}",
    "list of a range": "{{ range(100000)|list }}",
    "filter center": "{{ 'a'|center(10**9) }}",
    "filter center of a number": "{{ 1|center(10**9) }}",
    "filter indent": "{{ 'a\\nb'|indent(10**9) }}",
    "filter indent with text": f"{{% set b = {LONG} %}}{{{{ 'a\\nb\\nc\\nd\\ne\\nf'|indent(b) }}}}",
    "filter replace": f"{{{{ ({LONG})|replace('a', {LONG}) }}}}",
    "filter replace by names": f"{{{{ ({LONG})|replace(new={LONG}, old='') }}}}",
    "filter join": f"{{{{ range(99999)|join({LONG}) }}}}",
    "filter batch": "{{ [1]|batch(10**9, 1)|list }}",
    "filter slice": "{{ [1]|slice(10**9)|list }}",
    "filter round": "{{ 1.5|round(10**9, 'ceil') }}",
    "filter sum": "{{ ([[1]] * 30000)|sum(start=[]) }}",
    "filter tojson": "{{ [1]|tojson(indent=10**9) }}",
    "separators of tojson": f"{{{{ [1, 2]|tojson(separators=({LONG}, ':')) }}}}",
    "filter format": "{{ '%1000000000d'|format(1) }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "format of an argument's width": "{{ '%*d' % (10**9, 1) }}",
    "format with a precision": "{{ '%.1000000000f' % 1 }}",
    "format with a named field": "{{ '%(a(b))1000000000d' % {'a(b)': 1} }}",
    "format of many": f"{{{{ ('%(a)s' * 9999) % {{'a': {LONG}}} }}}}",
    "str.format": "{{ '{:1000000000}'.format(1) }}",
    "str.format of an argument's width": "{{ '{:{}}'.format(1, 10**9) }}",
    "str.format of many": f"{{{{ ('{{0}}' * 9999).format({LONG}) }}}}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "replace": f"{{{{ ({LONG}).replace('a', {LONG}) }}}}",
    "join": f"{{{{ ({LONG}).join('abcdefghi') }}}}",
    "split": "{{ ('a ' * 1000000).split(' ') }}",
    "strftime": "{{ strftime_now('%Y' * 100000) }}",
    "output": f"{{% set b = {LONG} %}}{{{{ b }}}}{{{{ b }}}}",
    "output of text": "{% for i in range(99999) %}some text that is twenty long{% endfor %}",
    "block": f"{{% set b = {LONG} %}}{{% set x %}}{{% for i in range(9999) %}}{{{{ b }}}}{{% endfor %}}{{% endset %}}",
    "doubled by +": "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "doubled by ~": "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubled list": "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "nested list": "{% set n = namespace(s=1) %}{% for i in range(99) %}{% set n.s = [n.s, n.s] %}{% endfor %}",
    "nested tuple": "{% set n = namespace(s=1) %}{% for i in range(99) %}{% set n.s = (n.s, n.s) %}{% endfor %}",
    "nested dictionary": "{% set n = namespace(s=1) %}{% for i in range(99) %}{% set n.s = {1: n.s, 2: n.s} %}{% endfor %}",
    "nested dict()": "{% set n = namespace(s=1) %}{% for i in range(99) %}{% set n.s = dict(a=n.s, b=n.s) %}{% endfor %}",
    "nested views": "{% set n = namespace(s=1) %}{% for i in range(99) %}{% set n.s = {1: n.s, 2: n.s}.items() %}{% endfor %}",
    "slices": f"{{% set b = {LONG} %}}{{% set n = namespace(l=[]) %}}{{% for i in range(9999) %}}"
    "{% set n.l = n.l + [b[i:]] %}{% endfor %}",
    "all values": f"{{% set b = {LONG} %}}{{% for i in range(9999) %}}{{% set x = b[i:] %}}{{% endfor %}}",
}


@pytest.mark.parametrize("source", HUGE.values(), ids=HUGE)
def test_a_template_that_makes_too_much_is_ended(source):
    # A machine that has much else to do may come to the limit of time first.
    words = (
        r"The chat template (makes more than 1048576 characters\.|does not end within 2 seconds"
        r"|(makes|gives|formats with|adds up) .*\(line \d\))"
    )
    with pytest.raises(BundleError, match=words):
        rendered(source)


def peak_bytes(work):
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["repetition", "nested list", "slices", "block", "join", "doubled by +"])
def test_memory_is_bounded(name):
    template = ChatTemplate(HUGE[name])
    assert peak_bytes(lambda: template.render([USER])) < 150e6


# Ways to grow that a template may put together in any order; the limits must hold for all of them.
GROWTH = st.sampled_from(
    [
        "(X + X)", "(X * 1000)", "(X ~ X)", "[X, X, X]", "[X] * 500", "{1: X, 2: X}", "(X|string)", "(X|list)", "(X|join('ab'))",
        "(X|tojson)", "('%s%s' % (X, X))", "('{0}{0}'.format(X))", "(X|replace('', 'abc'))", "(X|string).split('')",
        "(X|string)[1:]", "(X|batch(3)|list)", "(X|map('string')|list)", "(X|upper)", "(X|indent(9, true))", "(X|urlencode)",
        "(X|sort|list)", "(X|center(500))", "dict(a=X, b=X)", "dict(a=X).items()", "(X|e)", "X.ljust(900)", "(X|select|list)",
    ]
)  # fmt: skip


@settings(max_examples=60)
@given(steps=st.lists(GROWTH, min_size=1, max_size=12), times=st.integers(1, 50))
def test_no_mixture_of_growth_escapes(steps, times):
    updates = "".join("{% set n.x = " + step.replace("X", "n.x") + " %}" for step in steps)
    source = f"{{% set n = namespace(x='ab') %}}{{% for i in range({times}) %}}{updates}{{% endfor %}}{{{{ n.x }}}}"
    template = ChatTemplate(source, max_output=20_000, max_seconds=0.5)
    began = time.monotonic()
    with contextlib.suppress(BundleError):
        assert len(template.render([USER])) <= 20_000
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__'].__mro__ }}",
        "{{ (messages|attr('__class__')).mro() }}",
        "{{ raise_exception.__globals__['x'] }}",
        "{{ range.__self__.x }}",
        "{{ '{0.__class__.__mro__}'.format(1).x.y }}",
        "{{ 'x'.format_map({}) }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ messages[0].pop('role') }}",
        "{{ messages.sort() }}",
        "{{ (1).to_bytes(9, 'big') }}",
        "{{ 'x'.encode() }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}",
        "{% set n = namespace() %}{% set n._Namespace__attrs = 1 %}",
        "{{ lipsum.__globals__.os }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ self.__init__.__globals__.os }}",
        "{{ (messages|map('upper')).gi_frame.f_globals }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_nothing_leads_out_of_the_sandbox(source):
    with pytest.raises(BundleError, match=r"The chat template fails \(line 1\)"):
        rendered(source)


def test_messages_and_values_stay_as_they_were():
    messages, tools = [dict(USER)], [{"a": [1]}]
    ChatTemplate("{% set messages = [] %}{% for t in tools %}{% set t = 1 %}{% endfor %}").render(messages, tools=tools)
    assert (messages, tools) == ([USER], [{"a": [1]}])


def test_a_template_that_calls_itself_without_end_fails():
    for source in (
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{% set n = namespace(x=1) %}{% for i in range(3000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
    ):
        with pytest.raises(BundleError, match=r"fails \(line 1\): maximum recursion depth|makes values|does not end"):
            rendered(source, max_seconds=0.5)


def test_a_namespace_that_holds_itself_can_be_written():
    assert rendered("{% set n = namespace() %}{% set n.n = n %}{{ n }}") == "<Namespace>"


def test_undefined_variables_are_empty_and_have_nothing():
    assert rendered("[{{ nothing }}{% for x in nothing %}{% endfor %}]") == "[]"
    with pytest.raises(BundleError, match=r"fails \(line 3\): 'nothing' is undefined"):
        rendered("\n\n{{ nothing.more }}")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("a\n{% if %}", "error in line 2: Expected an expression"),
        ("{% for m in messages %}", "error in line 1: .*end of template"),
        ("\n\n{{ 1|pprint }}", "error in line 3: No filter named 'pprint'"),
        ("{% if a %}" * 200 + "{% endif %}" * 200, "cannot be compiled"),
        ("{{ " + "1+" * 5000 + "1 }}", "cannot be compiled"),
        ("{% for a in b %}" * 25 + "{% endfor %}" * 25, "cannot be compiled"),
        ("x" * (MAX_SOURCE + 1), f"{MAX_SOURCE + 1} characters; at most {MAX_SOURCE}"),
    ],
)
def test_what_is_no_template_is_refused_with_its_line(source, words):
    with pytest.raises(BundleError, match=words):
        ChatTemplate(source)


def test_nothing_is_computed_while_a_template_is_compiled():
    ChatTemplate("{% if false %}{{ 'a' * 10**10 }}{{ 10**(10**9) }}{{ 'a'|center(10**10) }}{% endif %}")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], r"Messages cannot be \[\]"),
        (None, "Messages cannot be None"),
        ("hello", "Messages cannot be 'hello'"),
        (USER, "Messages cannot be {'role'"),
        ([USER, "x"], "Message 1 is 'x'"),
        ([{"content": "x"}], "role of message 0 is missing"),
        ([{"role": "user"}], "content of message 0 is missing"),
        ([USER, {"role": "user", "content": None}], "content of message 1 is None"),
        ([{"role": 3, "content": "x"}], "role of message 0 is 3"),
        ([USER, {"role": "robot", "content": "x"}], f"role of message 1 is 'robot'. Choose one of {', '.join(ROLES)}"),
        ([{**USER, "extra": object()}], "Message 0 holds <object"),
    ],
)
def test_messages_of_another_form_are_named(messages, words):
    with pytest.raises(InputError, match=words):
        ChatTemplate(CHATML).render(messages)


def test_values_that_are_no_plain_data_are_refused():
    endless = []
    endless.append(endless)
    for value in (object(), b"x", endless, {"a": {1, 2}}):
        with pytest.raises(InputError, match="tools holds"):
            ChatTemplate(CHATML).render([USER], tools=value)


def test_enumerations_and_numbers_are_taken_as_their_plain_values():
    class Role(str, Enum):
        user = "user"

    class Level(int, Enum):
        high = 3

    text = ChatTemplate("{{ messages[0].role }} {{ a }} {{ b }} {{ c }}").render(
        [{"role": Role.user, "content": ""}], a=Level.high, b=1.5, c=(True, None)
    )
    assert text == "user 3 1.5 [True, None]"


def test_a_conversation_beyond_the_output_is_refused():
    with pytest.raises(InputError, match="conversation has 2001 characters; at most 2000"):
        rendered("", [{"role": "user", "content": "x" * 2001}], max_output=2000)


def test_a_long_conversation_is_rendered():
    messages = [{"role": role, "content": "word " * 400} for _ in range(200) for role in ("user", "assistant")]
    for template in (CHATML, LLAMA_2, LLAMA_3, MISTRAL):
        assert ChatTemplate(template, TOKENS).render(messages) == by_transformers(template, messages, True)


def test_a_refusal_is_cut_to_a_sentence():
    with pytest.raises(InputError) as caught:
        rendered("{{ raise_exception('no ' * 9999) }}")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("limits", [{"max_output": 0}, {"max_seconds": 0}])
def test_limits_must_be_above_zero(limits):
    with pytest.raises(UsageError, match="above 0"):
        ChatTemplate("", **limits)


def test_several_threads_render_at_the_same_time():
    template, texts = ChatTemplate(CHATML), {}

    def render(number):
        for _ in range(20):
            texts[number] = template.render([{"role": "user", "content": str(number) * 50}])

    threads = [threading.Thread(target=render, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {n: template.render([{"role": "user", "content": str(n) * 50}]) for n in range(4)}


def test_a_rendering_takes_little_time():
    template, messages = ChatTemplate(LLAMA_3, TOKENS), [USER, ASSISTANT] * 10
    times = []
    for _ in range(20):
        began = time.perf_counter()
        template.render(messages)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.005


def test_without_jinja_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(EnvironmentFailure, match=r"pip install 'tokenizers.*' 'jinja2>=3"):
        ChatTemplate(CHATML)


def test_a_jinja_with_known_holes_is_refused(monkeypatch):
    monkeypatch.setattr("jinja2.__version__", "3.1.5")
    with pytest.raises(EnvironmentFailure, match=r"jinja2 3\.1\.5 is installed"):
        ChatTemplate(CHATML)


def test_the_last_message_is_continued_as_transformers_does() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    for source in (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}",
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}",
    ):
        for last in ("The har", "The har ", " x", ""):
            messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": last}]
            (wanted,), _ = render_jinja_template([messages], chat_template=source, continue_final_message=True)
            found = ChatTemplate(source).render(messages, add_generation_prompt=False, continue_final_message=True)
            assert found == wanted
            assert messages[-1]["content"] == last


def test_a_last_message_that_a_template_leaves_out_cannot_be_continued() -> None:
    with pytest.raises(InputError, match="does not show the last message"):
        ChatTemplate("{{ messages[0].content }}").render(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            add_generation_prompt=False,
            continue_final_message=True,
        )
