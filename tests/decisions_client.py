"""The real `openai` and `typesafe_sdk` clients ask a running server for decisions.

    python decisions_client.py http://127.0.0.1:PORT

Each check is a function whose name begins with `check_`, and raises if it fails. Prints a line per check.
"""

import sys
import time

import openai
import typesafe_sdk
from typesafe_sdk import Choice, Noul, RetryPolicy, Score, TypeSafeClient

BASE = sys.argv[1]
OPENAI = openai.OpenAI(base_url=f"{BASE}/v1", api_key="unused", max_retries=0, timeout=300)
TYPESAFE = TypeSafeClient(base_url=BASE, api_key="unused", timeout=300, retry=RetryPolicy(max_retries=0))
TICKET = "I was charged twice for the same order. Please give me my money back."
LETTERS = ["billing", "delivery", "praise"]


def near(left, right):
    return abs(left - right) < 1e-9


def decide(**more):
    questions = [
        {"type": "predicate", "name": "money", "instructions": "The text is about money."},
        {"type": "choice", "instructions": "What is it about?", "choices": [{"value": value} for value in LETTERS]},
        {"type": "choice", "name": "flag", "instructions": "Angry?", "choices": [{"value": True}, {"value": "true"}]},
        {
            "type": "score",
            "name": "urgency",
            "instructions": "How urgent is it?",
            "levels": [{"label": "low"}, {"label": "middle", "description": "this week"}, {"label": "high"}],
        },
    ]
    return OPENAI.decisions.create(**{"model": "any", "input": TICKET, "questions": questions, **more})


def check_openai():
    decision = decide()
    truth, choice, flag, score = decision.answers
    assert (truth.type, truth.name) == ("predicate", "money") and 0 < truth.probability < 1
    assert choice.type == "choice" and choice.name is None and choice.choice in LETTERS
    assert [each.value for each in choice.probabilities] == LETTERS
    assert near(sum(each.probability for each in choice.probabilities), 1)
    best = max(choice.probabilities, key=lambda each: each.probability)
    assert best.value == choice.choice and near(choice.confidence, best.probability)
    assert flag.choice in (True, "true") and [each.value for each in flag.probabilities] == [True, "true"]
    assert score.type == "score" and 0 <= score.score <= 2
    assert near(score.score, sum(each.value * each.probability for each in score.probabilities))
    assert [each.label for each in score.probabilities] == ["low", "middle", "high"]
    assert decision.usage.output_tokens == 4 and decision.usage.input_tokens > 100 and decision.model


def check_repeatable_to_the_bit():
    first, second = decide(), decide()
    assert first.answers == second.answers
    # The text is read once for all questions.
    assert second.usage.input_tokens_details.cached_tokens > first.usage.input_tokens // 4


def check_labels_of_several_tokens():
    many = [{"value": f"kind {index}"} for index in range(30)]
    question = {"type": "choice", "instructions": "Which kind is it?", "choices": many}
    (answer,) = decide(questions=[question]).answers
    assert len(answer.probabilities) == 30 and near(sum(each.probability for each in answer.probabilities), 1)
    assert all(0 <= each.probability <= 1 for each in answer.probabilities)
    assert (answer,) == tuple(decide(questions=[question]).answers)


def check_openai_items():
    items = [
        {"role": "developer", "content": "Tickets of a shop."},
        {"role": "user", "content": [{"type": "input_text", "text": TICKET}, {"type": "input_json", "data": {"order": 7}}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "I will look into it."}]},
    ]
    assert len(decide(input=items).answers) == 4


def check_openai_errors():
    for more, param in (
        ({"questions": []}, "questions"),
        ({"questions": [{"type": "box"}]}, "questions[0].type"),
        ({"input": [{"type": "made_up"}]}, "input[0].type"),
        ({"input": "word " * 9000}, "input"),
    ):
        try:
            decide(**more)
        except openai.BadRequestError as error:
            assert error.param == param, error.body
            continue
        raise AssertionError(f"an error was expected: {param}")


def check_systemone():
    questions = {
        "billing": Noul(instructions="Is this about billing?", criteria={"true": "about money"}),
        "tone": Choice(instructions="What is the tone?", criteria={"calm": None, "angry": "an upset message"}),
        "urgency": Score(instructions="How urgent is it?", criteria=["can wait", "this week", "today"]),
    }
    first = TYPESAFE.system_one(state={"message": TICKET}, questions=questions)
    assert 0 <= first.nouls["billing"].noul <= 1
    tone = first.choices["tone"]
    assert near(tone.confidence, tone.probabilities[tone.choice]) and near(sum(tone.probabilities.values()), 1)
    urgency = first.scores["urgency"]
    assert urgency.legend == {0: "can wait", 1: "this week", 2: "today"}
    assert near(urgency.score, sum(level * each for level, each in urgency.probabilities.items()))
    assert first.usage.output_tokens == 3 and first.usage.input_tokens > 50
    again = TYPESAFE.system_one(state={"message": TICKET}, questions=questions)
    assert again.answers == first.answers


def check_systemone_models():
    (model,) = TYPESAFE.models.list().models
    assert model.name and model.description and len(model.release_date) == 10


def check_systemone_errors():
    try:
        TYPESAFE.system_one(state="x", questions={"b": {"type": "box", "instructions": "The dog"}})
    except typesafe_sdk.TypeSafeUnprocessableEntityError as error:
        assert "questions.b.type" in str(error), error
        return
    raise AssertionError("an error was expected")


def main():
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            begun = time.monotonic()
            check()
            print(f"{name[6:].replace('_', ' ')}: ok, {time.monotonic() - begun:.1f} s", flush=True)


main()
