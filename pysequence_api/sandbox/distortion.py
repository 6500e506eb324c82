"""Turns a true answer into what a fault makes of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import assert_never

from pydantic import JsonValue

from pysequence_api.sandbox.exchange import Answer, Delivery, json_answer
from pysequence_api.sandbox.faults import (
    AnswerEffect,
    CloseEffect,
    DateOffsetEffect,
    Effect,
    GarbageEffect,
    GraphqlErrorEffect,
    HalfBodyEffect,
    HtmlEffect,
    HugeBodyEffect,
    NoDateEffect,
    NullsEffect,
    RedirectEffect,
    StatusEffect,
)

_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
NOT_RUN = json_answer({"data": None})
"""Stands for the true answer where the operation did not run."""


def replace_answer(effect: AnswerEffect, answer: Answer) -> Answer:  # noqa: PLR0911 - one for each effect
    """Make the answer that an effect wants.

    Args:
        effect: what goes wrong.
        answer: the true answer, or `NOT_RUN`.
    """
    match effect:
        case StatusEffect():
            return _status_answer(effect)
        case HtmlEffect():
            return Answer(effect.status, effect.body.encode(), _HTML)
        case GraphqlErrorEffect():
            data = _load(answer).get("data") if effect.keep_data else None
            return json_answer({"errors": [{"message": effect.message}], "data": data})
        case CloseEffect():
            return replace(answer, delivery=Delivery.NOTHING)
        case HalfBodyEffect():
            return replace(answer, delivery=Delivery.HALF_BODY)
        case GarbageEffect():
            return Answer(200, effect.body.encode())
        case RedirectEffect():
            return Answer(effect.status, b"", _TEXT, (("location", effect.location),))
        case HugeBodyEffect():
            return replace(answer, fill_bytes=max(0, effect.size_bytes - len(answer.body)))
        case _:
            assert_never(effect)


def distort(effects: Sequence[Effect], answer: Answer) -> Answer:
    """Apply the effects that change parts of an answer: its data, its date."""
    for effect in effects:
        match effect:
            case NullsEffect():
                answer = _without(effect, answer)
            case NoDateEffect():
                answer = replace(answer, date_offset_seconds=None)
            case DateOffsetEffect():
                answer = replace(answer, date_offset_seconds=effect.seconds)
            case _:
                continue  # the other effects are not about parts of the answer
    return answer


def _status_answer(effect: StatusEffect) -> Answer:
    headers = tuple(effect.headers.items())
    if isinstance(effect.body, str):
        return Answer(effect.status, effect.body.encode(), _TEXT, headers)
    body: JsonValue = {"error": _phrase(effect.status)} if effect.body is None else effect.body
    return replace(json_answer(body, effect.status), headers=headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _load(answer: Answer) -> dict[str, JsonValue]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _without(effect: NullsEffect, answer: Answer) -> Answer:
    body = _load(answer)
    if not body:
        return answer
    for path in effect.paths:
        _remove(body.get("data", body), path.split("."), missing=effect.missing)
    return answer.with_json(body)


def _remove(value: JsonValue, path: Sequence[str], *, missing: bool) -> None:
    step, rest = path[0], path[1:]
    for key in _keys(value, step):
        if rest:
            _remove(value[key], rest, missing=missing)  # type: ignore[index]
        elif missing:
            del value[key]  # type: ignore[union-attr,arg-type]
        else:
            value[key] = None  # type: ignore[index]


def _keys(value: JsonValue, step: str) -> list[int] | list[str]:
    """Find what a step of a path leads to; the last entries of a list first, so that they can be deleted in turn."""
    if isinstance(value, list):
        if step == "*":
            return list(reversed(range(len(value))))
        return [int(step)] if step.isdecimal() and int(step) < len(value) else []
    if isinstance(value, dict):
        return list(value) if step == "*" else [step] if step in value else []
    return []
