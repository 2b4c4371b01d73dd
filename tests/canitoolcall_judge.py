"""Between the package canitoolcall and our parser: `requests` prints its fixtures cut into streams, one JSON object a line;
`judge` reads what our parser made of them, and prints what the package's own checks say.

The package cuts at tokens. Tokenizers are not here, so that a unit is a word, a mark of the family, or one other character.
"""

import json
import re
import sys

from canitoolcall.checks import case_status, run_checks
from canitoolcall.chunking import DEFAULT_STRATEGIES, ChunkStrategy, split
from canitoolcall.fixtures import load_families, load_fixtures
from canitoolcall.results import Observation, ParsedToolCall, ParseResult

STRATEGIES = (*DEFAULT_STRATEGIES, ChunkStrategy("char", seed=0), ChunkStrategy("char", seed=1))


def units(text, markers):
    marks = "|".join(re.escape(mark) for mark in sorted(markers, key=len, reverse=True))
    return re.findall(f"{marks}|\\s?\\w{{1,6}}|\\s|.", text, flags=re.DOTALL)


def streams(fixture, family):
    text = fixture.raw_output
    parts = units(text, family.markers)
    special = frozenset(family.markers)
    for strategy in STRATEGIES:
        cut = split(list(text) if strategy.kind == "char" else parts, strategy, special)
        yield strategy.id, ["".join(group) for group in cut]


def prompt(fixture, family):
    model = next(m for m in family.reference_models if m.repo == fixture.reference_model)
    own = fixture.generation_prompt
    return model.default_generation_prompt if own is None else own


def requests():
    families = load_families()
    for fixture in load_fixtures():
        family = families[fixture.family]
        print(json.dumps({
            "id": fixture.id,
            "model": fixture.reference_model,
            "tools": [tool["function"] for tool in fixture.tools],
            "prompt": prompt(fixture, family),
            "whole": not fixture.truncated,
            "text": fixture.raw_output,
            "streams": dict(streams(fixture, family)),
        }))


def result(said):
    calls = tuple(ParsedToolCall(call["name"], call["arguments"]) for call in said["calls"])
    return ParseResult(content=said["text"] or None, reasoning_content=said["reasoning"] or None, tool_calls=calls)


def judge():
    families = load_families()
    fixtures = {fixture.id: fixture for fixture in load_fixtures()}
    for line in sys.stdin:
        said = json.loads(line)
        fixture = fixtures[said["id"]]
        seen = Observation(nonstream=result(said["whole"]), streams={k: result(v) for k, v in said["streams"].items()})
        rows = run_checks(fixture, families[fixture.family], seen)
        # The package leaves characters out of what counts, since engines stream tokens; ours must not mind them.
        uneven = any(stream != seen.nonstream for stream in seen.streams.values())
        bad = [row for row in rows if row.status.value in ("fail", "error")]
        detail = f"{bad[0].check} {bad[0].strategy}: {bad[0].detail}" if bad else ""
        print(json.dumps({"id": fixture.id, "status": case_status(rows).value, "uneven": uneven, "detail": detail}))


if __name__ == "__main__":
    {"requests": requests, "judge": judge}[sys.argv[1]]()
