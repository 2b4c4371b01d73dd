"""The live scenarios of the package canitoolcall against a server (arguments: base URL, model).

A model of 135 million parameters may not call when it could, or save other words than it was asked to. Everything else must hold: no
request fails, calls are whole and satisfy their schemas, no mark of the format is in them, streams say the same as whole answers.
Each scenario that wants a call is run as it is, and with a call required.
"""

import dataclasses
import sys

from canitoolcall.probe import BUILTIN_SCENARIOS, probe

# What a small model gets wrong, in the package's words.
MODELS_FAULT = (
    "expected at least",
    "expected calls",
    "expected no tool call",
    "expected a content answer",
    "argument values lost",
)


def required(scenario):
    choice = "required" if scenario.tool_choice == "auto" else scenario.tool_choice
    return dataclasses.replace(scenario, id=f"{scenario.id} (required)", tool_choice=choice)


def limited(scenario):
    return dataclasses.replace(scenario, extra_body={**scenario.extra_body, "max_completion_tokens": 200, "seed": 1})


def main(base, model):
    must_call = [required(scenario) for scenario in BUILTIN_SCENARIOS if scenario.expect.tool_names]
    scenarios = [limited(scenario) for scenario in (*BUILTIN_SCENARIOS, *must_call)]
    report = probe(base, model, scenarios=scenarios, timeout_s=300, concurrency=2)
    wrong, called = [], 0
    for outcome in report.outcomes:
        faults = [] if outcome.status == "pass" else (outcome.detail or "").split("; ")
        faults = [fault for fault in faults if not fault.startswith(MODELS_FAULT)]
        if faults or outcome.warnings or outcome.status in ("error", "skip"):
            wrong.append(f"{outcome.scenario_id} stream={outcome.stream} {outcome.check}: {outcome.detail} {outcome.warnings}")
        if outcome.scenario_id.endswith("(required)") and outcome.observed and outcome.observed.tool_calls:
            called += 1
    print(report.render_text())
    if wrong:
        sys.exit("not the model's fault:\n" + "\n".join(wrong))
    if called < len(must_call):
        sys.exit(f"{called} answers had the call that was required; most of {2 * len(must_call)} should")


if __name__ == "__main__":
    main(*sys.argv[1:])
