"""From the fields of a row to what is asked."""

from __future__ import annotations

from typing import Any

import pytest

from llm_guard.cli.prompts import Field, Template, TemplateError, Unusable, WithSystem

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(("template", "prompt"), [
    ("Summarise: {text}", "Summarise: it"), ("{text}{text}", "itit"), ("{ text }", "it"), ("{{{text}}}", "{it}"),
    ('{{"a": "{text}"}}', '{"a": "it"}'), ("{n} {list} {yes}", '3 ["ä", 1] true'),
    ("{a.b} {text[0]}", "dotted, indexed"), ("{text!r:>10}", "odd")])
def test_a_template_is_filled_by_name_alone(template: str, prompt: str) -> None:
    fields = {"text": "it", "n": 3, "list": ["ä", 1], "yes": True, "a.b": "dotted,", "text[0]": "indexed",
              "text!r:>10": "odd"}
    assert Template(template)(fields) == prompt


@pytest.mark.parametrize("template", ["{text.__class__}", "{text[0]}", "{text!r}", "{text:>9}", "{0}"])
def test_nothing_but_a_name_can_be_asked_for(template: str) -> None:
    with pytest.raises(Unusable, match="its fields are: 'text'"):
        Template(template)({"text": "do not tell"})


@pytest.mark.parametrize(("template", "says"), [
    ("a { b", "'{' at character 3"), ("a } {b}", "'}' at character 3"), ("{}", "encloses no name"),
    ("{a{b}}", "'{' at character 1"), ("{{text}}", "no name of a field"), ("", "no name of a field")])
def test_what_is_no_template_is_refused(template: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        Template(template)


@pytest.mark.parametrize(("make", "fields", "says"), [
    (Field("a"), {"b": "do not tell", "c": 1}, "no field 'a'; its fields are: 'b', 'c'"),
    (Field("a"), {}, "no field 'a'; its fields are: none"),
    (Field("a"), {"a": 3}, "field 'a' is a number, where a text or a list of messages belongs"),
    (Field("a"), {"a": None}, "field 'a' is null, where"), (Field("a"), {"a": []}, "field 'a' is a list, where"),
    (Field("a"), {"a": ["do not tell"]}, "field 'a' is a list, where"),
    (Field("a"), {"a": [{"content": "do not tell"}]}, "field 'a' is a list, where"),
    (Template("{a}"), {"a": None}, "field 'a' is null, where a text belongs"),
    (Field("a"), {f"field {n}": n for n in range(30)}, "'field 19' and 10 more")],
    ids=["other fields", "no fields", "number", "null", "empty list", "list of texts", "no role", "null in a template",
         "many fields"])
def test_a_row_from_which_nothing_can_be_asked_says_why(make: Any, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(Unusable, match=says) as raised:
        make(fields)
    assert "do not tell" not in str(raised.value)


def test_a_field_is_asked_as_it_is_be_it_a_text_or_messages() -> None:
    assert Field("a")({"a": " {b} "}) == " {b} "
    assert Field("a")({"a": MESSAGES}) == MESSAGES


@pytest.mark.parametrize(("value", "last"), [("hello", MESSAGES), (MESSAGES, MESSAGES)], ids=["text", "messages"])
def test_the_systems_message_comes_first(value: object, last: list[dict[str, str]]) -> None:
    assert WithSystem("be {kind}", Field("a"))({"a": value}) == [{"role": "system", "content": "be {kind}"}, *last]
