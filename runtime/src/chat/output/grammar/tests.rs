//! Calls of every family as their grammars allow them, on the vocabulary of a tiny model, which has every mark as text.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::super::{OutputFormat, Part};
use super::{CallRule, Spelled};
use crate::TokenId;
use crate::chat::tools::{Tool, ToolChoice, Tools};
use crate::grammar::{Calls, Channelled, Format, Grammars, Wanted};
use crate::sampling::Constraint;
use crate::tokenizer::Tokenizer;

/// How arguments are written.
#[derive(Clone, Copy)]
enum Style {
    Json,
    Python,
    Gemma,
    /// A tag for each, in which `K` and `V` stand for name and value, and `T` for the value's type.
    Tags(&'static str),
}

use Style::{Gemma, Json, Python, Tags};

const EQUALS: Style = Tags("<parameter=K>\nV\n</parameter>\n");
const DSML: Style = Tags("<｜DSML｜parameter name=\"K\" string=\"T\">V</｜DSML｜parameter>\n");

/// A call of each family; `ARGS` stands for the arguments.
const CALLS: &[(&str, &str, Style)] = &[
    ("hermes", "<tool_call>\n{\"name\": \"weather\", \"arguments\": ARGS}\n</tool_call>", Json),
    ("llama-3", "{\"name\": \"weather\", \"parameters\": ARGS}", Json),
    ("mistral", "[TOOL_CALLS]weather[ARGS]ARGS", Json),
    ("mistral", "[TOOL_CALLS]weather[CALL_ID]a1B2c3D4e[ARGS]ARGS", Json),
    ("mistral", "[TOOL_CALLS] [{\"name\": \"weather\", \"arguments\": ARGS}]", Json),
    (
        "command-r7b",
        "<|START_ACTION|>[\n{\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": ARGS}\n]<|END_ACTION|>",
        Json,
    ),
    ("apertus", "<|tools_prefix|>[{\"weather\": ARGS}]<|tools_suffix|>", Json),
    ("nemotron-v2", "<TOOLCALL>[{\"name\": \"weather\", \"arguments\": ARGS}]</TOOLCALL>", Json),
    ("tool-calls", "<tool_calls>[{\"name\": \"weather\", \"arguments\": ARGS}]</tool_calls>", Json),
    ("granite-3", "<|tool_call|>[{\"name\": \"weather\", \"arguments\": ARGS}]", Json),
    ("phi-4", "<|tool_call|>[{\"name\": \"weather\", \"arguments\": ARGS}]<|/tool_call|>", Json),
    ("gigachat", "<|function_call|>{\"name\": \"weather\", \"arguments\": ARGS}", Json),
    (
        "deepseek-v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\nARGS\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        Json,
    ),
    (
        "deepseek-v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>ARGS<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        Json,
    ),
    (
        "kimi-k2",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>ARGS<|tool_call_end|>\
        <|tool_calls_section_end|>",
        Json,
    ),
    ("functionary-3.1", "<function=weather>ARGS</function>", Json),
    ("functionary-3.2", ">>>weather\nARGS", Json),
    (
        "solar",
        "<|tool_calls|><|tool_call:begin|>x1<|tool_call:name|>weather<|tool_call:args|>ARGS<|tool_call:end|><|calls|>",
        Json,
    ),
    ("gpt-oss", "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>ARGS", Json),
    ("gemma-4", "<|tool_call>call:weather{ARGS}<tool_call|>", Gemma),
    ("llama-4", "[weather(ARGS)]", Python),
    ("lfm2", "<|tool_call_start|>[weather(ARGS)]<|tool_call_end|>", Python),
    ("qwen3-coder", "<tool_call>\n<function=weather>\nARGS</function>\n</tool_call>", EQUALS),
    (
        "seed-oss",
        "<seed:tool_call>\n<function=weather>\nARGS</function>\n</seed:tool_call>",
        Tags("<parameter=K>V</parameter>\n"),
    ),
    ("glm", "<tool_call>weather\nARGS</tool_call>", Tags("<arg_key>K</arg_key>\n<arg_value>V</arg_value>\n")),
    (
        "hunyuan-3",
        "<tool_calls:opensource>\n<tool_call:opensource>weather<tool_sep:opensource>\nARGS</tool_call:opensource>\n</tool_calls:opensource>",
        Tags("<arg_key:opensource>K</arg_key:opensource>\n<arg_value:opensource>V</arg_value:opensource>\n"),
    ),
    (
        "minimax-m2",
        "<minimax:tool_call>\n<invoke name=\"weather\">\nARGS</invoke>\n</minimax:tool_call>",
        Tags("<parameter name=\"K\">V</parameter>\n"),
    ),
    ("minicpm-5", "<function name=\"weather\">ARGS</function>", Tags("<param name=\"K\">V</param>")),
    (
        "deepseek-v3.2",
        "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"weather\">\nARGS</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        DSML,
    ),
    (
        "deepseek-v4",
        "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"weather\">\nARGS</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
        DSML,
    ),
    (
        "muse",
        "<atem:function_calls>\n<atem:invoke name=\"weather\">\nARGS</atem:invoke>\n</atem:function_calls>",
        Tags("<atem:parameter name=\"K\">V</atem:parameter>\n"),
    ),
];

/// `ARGS` is a mark of Mistral's, too.
fn with_arguments(call: &str, arguments: &str) -> String {
    match call.rsplit_once("ARGS") {
        Some((before, after)) => format!("{before}{arguments}{after}"),
        None => call.to_owned(),
    }
}

fn written(style: Style, arguments: &[(&str, Value)]) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parts = arguments.iter().map(|(key, value)| match style {
        Json => format!("\"{key}\": {value}"),
        Python => format!("{key}={value}"),
        Gemma => match value.as_str() {
            Some(text) => format!("{key}:<|\"|>{text}<|\"|>"),
            None => format!("{key}:{value}"),
        },
        Tags(tag) => {
            let kind = value.is_string().to_string();
            tag.replacen('T', &kind, 1).replacen('K', key, 1).replacen('V', &plain(value), 1)
        }
    });
    let parts: Vec<String> = parts.collect();
    match style {
        Json => format!("{{{}}}", parts.join(", ")),
        Python => parts.join(", "),
        Gemma => parts.join(","),
        Tags(_) => parts.concat(),
    }
}

struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    grammars: Grammars,
}

fn vocabulary() -> Vocabulary {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/models/stories260K-f32.v3.gguf");
    let gguf = satchel_gguf::Gguf::parse(&std::fs::read(path).expect("the model")).expect("a GGUF file");
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf.metadata).expect("its vocabulary"));
    Vocabulary { grammars: Grammars::new(Arc::clone(&tokenizer)), tokenizer }
}

fn family(name: &str) -> OutputFormat {
    OutputFormat::named(name).unwrap_or_else(|| panic!("no family {name}"))
}

fn tool(name: &str, parameters: Value) -> Tool {
    Tool { name: name.into(), description: None, parameters, strict: true, custom: false }
}

fn tools(choice: ToolChoice) -> Tools {
    let weather = json!({"type": "object", "required": ["city"], "additionalProperties": false, "properties": {
        "city": {"type": "string"}, "days": {"type": "integer", "minimum": 0, "maximum": 9}, "unit": {"enum": ["c", "f"]}}});
    let list = vec![tool("weather", weather), tool("time", json!({"type": "object", "properties": {}}))];
    Tools { list, choice, ..Tools::default() }
}

impl Vocabulary {
    fn calls(&self, format: &OutputFormat, tools: &Tools) -> Result<Calls, String> {
        let spell = |mark: &str| if mark.is_empty() { Vec::new() } else { vec![Spelled::Text(mark.to_owned())] };
        let rules = format.call_rules(tools, &[], &spell).map_err(|(_, line)| line)?;
        let required = matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_));
        let compile = |rules: &[CallRule]| self.grammars.compile_rules(rules);
        let wanted = Wanted { rules, strict: Vec::new() };
        self.grammars.calls(wanted, required, tools.parallel, compile).map_err(|error| error.to_string())
    }

    fn start(&self, format: &OutputFormat, tools: &Tools) -> Box<dyn Constraint> {
        let calls = self.calls(format, tools).unwrap_or_else(|line| panic!("{}: {line}", format.name()));
        calls.constraint(Arc::clone(&self.tokenizer), self.tokenizer.end_tokens())
    }

    /// An answer in channels, to a format where there is one.
    fn channelled(&self, tools: &Tools, format: Option<Value>, budget: Option<usize>) -> Box<dyn Constraint> {
        let (output, ends) = (family("gpt-oss"), self.tokenizer.end_tokens());
        let calls = tools.are_offered().then(|| self.calls(&output, tools).expect("grammars"));
        let format = format.map(|schema| self.grammars.compile(&Format::Schema(schema)).expect("a grammar"));
        let rules = self
            .grammars
            .channel_rules(&output.channels().expect("channels"), calls.as_ref().is_some_and(Calls::are_required));
        let format = format.map(|grammar| grammar.constraint(Arc::clone(&ends)));
        let wanted = Channelled { calls, format, budget, ends };
        wanted.constraint(Arc::clone(&self.tokenizer), rules).expect("a constraint")
    }

    /// Accepts what must follow, and returns it as text.
    fn take_forced(&self, constraint: &mut dyn Constraint) -> String {
        let mut text = Vec::new();
        for token in constraint.forced() {
            assert!(constraint.allowed().expect("a mask").allows(token), "{:?}", self.tokenizer.token_text(token));
            constraint.accept(token).expect("it was allowed");
            text.extend_from_slice(&self.tokenizer.token_bytes(token, true));
        }
        String::from_utf8(text).expect("whole letters")
    }

    /// Undoing tokens of this text opens what was open before them, in the constraint and in a copy.
    fn check_undoing(&self, mut constraint: Box<dyn Constraint>, text: &str) {
        let texts: Vec<_> = self.texts().collect();
        let (mut masks, mut tokens, mut at) = (Vec::new(), Vec::new(), 0);
        while at < text.len() {
            let mask = constraint.allowed().expect("a mask");
            let fits = texts.iter().filter(|(id, bytes)| text.as_bytes()[at..].starts_with(bytes) && mask.allows(*id));
            let (token, bytes) = fits.max_by_key(|(_, bytes)| bytes.len()).expect("a token");
            masks.push(mask);
            tokens.push(*token);
            at += bytes.len();
            constraint.accept(*token).expect("allowed");
        }
        for back in [1, 3, tokens.len() - 4, tokens.len()] {
            constraint.roll_back(back).expect("undone");
            let from = tokens.len() - back;
            let mut copy = constraint.fork();
            for (token, mask) in tokens[from..].iter().zip(&masks[from..]) {
                assert!(
                    constraint.allowed().expect("a mask") == *mask && copy.allowed().expect("a mask") == *mask,
                    "{text}"
                );
                constraint.accept(*token).expect("allowed");
                copy.accept(*token).expect("allowed");
            }
        }
    }

    fn texts(&self) -> impl Iterator<Item = (TokenId, Vec<u8>)> {
        let texts = (0..self.tokenizer.vocab_size() as TokenId).filter(|&id| !self.tokenizer.is_control(id));
        texts.map(|id| (id, self.tokenizer.token_bytes(id, false).into_owned())).filter(|(_, bytes)| !bytes.is_empty())
    }

    fn may_end(&self, constraint: &mut dyn Constraint) -> bool {
        constraint.is_complete() || {
            let mask = constraint.allowed().expect("a mask");
            self.tokenizer.end_tokens().iter().any(|&end| mask.allows(end))
        }
    }

    /// How much of an answer is allowed, and whether it may end there.
    fn follow(&self, constraint: &mut dyn Constraint, answer: &str) -> (usize, bool) {
        let texts: Vec<_> = self.texts().collect();
        let mut at = 0;
        while at < answer.len() {
            let Ok(mask) = constraint.allowed() else { return (at, false) };
            let rest = &answer.as_bytes()[at..];
            let fits = texts.iter().filter(|(id, bytes)| rest.starts_with(bytes) && mask.allows(*id));
            let Some((token, bytes)) = fits.max_by_key(|(_, bytes)| bytes.len()) else { return (at, false) };
            constraint.accept(*token).expect("it was allowed");
            at += bytes.len();
        }
        (at, self.may_end(constraint))
    }

    fn allows(&self, format: &OutputFormat, tools: &Tools, answer: &str) -> bool {
        // This vocabulary's first word has a space in front: so does a mark that is forced.
        [answer.to_owned(), format!(" {answer}")]
            .iter()
            .any(|answer| self.follow(&mut *self.start(format, tools), answer) == (answer.len(), true))
    }
}

fn read(format: &OutputFormat, tools: &Tools, answer: &str) -> Vec<(String, Value)> {
    let mut parser = format.parser(tools, "");
    let mut parts = parser.push(answer);
    parts.extend(parser.finish(true));
    let mut calls: Vec<(String, Value)> = Vec::new();
    for part in parts {
        match part {
            Part::ToolCall { name, .. } => calls.push((name, Value::Null)),
            Part::Arguments { call, json } => calls[call].1 = serde_json::from_str(&json).expect("JSON"),
            Part::Text(_) | Part::Reasoning(_) => {}
        }
    }
    calls
}

#[test]
fn a_call_satisfies_the_schema_in_every_format() {
    let vocabulary = vocabulary();
    let mut wrong = Vec::new();
    for (name, call, style) in CALLS {
        let format = family(name);
        for choice in [ToolChoice::Auto, ToolChoice::Required, ToolChoice::Named("weather".into())] {
            if call.contains('▁') && choice != ToolChoice::Auto {
                continue; // this vocabulary has spaces for these letters, which are control tokens in others
            }
            let tools = tools(choice);
            let with = |arguments: &[(&str, Value)]| with_arguments(call, &written(*style, arguments));
            let (city, days, unit) = (("city", json!("Rome")), ("days", json!(3)), ("unit", json!("f")));
            for good in [
                vec![city.clone()],
                vec![city.clone(), days.clone(), unit.clone()],
                vec![unit.clone(), days.clone(), city.clone()],
            ] {
                let answer = with(&good);
                if !vocabulary.allows(&format, &tools, &answer) {
                    let (at, _) = vocabulary.follow(&mut *vocabulary.start(&format, &tools), &answer);
                    wrong.push(format!(
                        "{name} {:?} refuses {:?} before {:?}",
                        tools.choice,
                        &answer[..at],
                        &answer[at..]
                    ));
                }
                let expected: serde_json::Map<_, _> =
                    good.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
                assert_eq!(read(&format, &tools, &answer), [("weather".to_owned(), Value::from(expected))], "{answer}");
            }
            let quoted = ("days", json!("many"));
            for bad in [
                vec![],
                vec![days.clone()],
                vec![city.clone(), quoted],
                vec![city.clone(), ("days", json!(12))],
                vec![city.clone(), ("unit", json!("x"))],
                vec![city.clone(), ("town", json!("Rome"))],
                vec![days.clone(), city.clone(), days.clone()],
            ] {
                let answer = with(&bad);
                if vocabulary.allows(&format, &tools, &answer) {
                    wrong.push(format!("{name} {:?} allows {answer:?}", tools.choice));
                }
            }
            let misnamed = with(&[city]).replace("weather", "wether");
            if vocabulary.allows(&format, &tools, &misnamed) {
                wrong.push(format!("{name} {:?} allows {misnamed:?}", tools.choice));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_model_talks_until_it_calls() {
    let vocabulary = vocabulary();
    let hermes = family("hermes");
    let call = CALLS[0].1.replace("ARGS", "{\"city\": \"Rome\"}");
    let auto = tools(ToolChoice::Auto);
    for answer in ["Hello.", "", "Say {\"name\": 1} <tool", &format!("Well. {call}"), &format!("{call}\n{call} Done.")]
    {
        assert!(vocabulary.allows(&hermes, &auto, answer), "{answer}");
    }
    assert!(!vocabulary.allows(&hermes, &auto, "So <tool_call> is a mark."));
    let one = Tools { parallel: false, ..tools(ToolChoice::Auto) };
    assert!(vocabulary.allows(&hermes, &one, &call));
    let must = tools(ToolChoice::Required);
    assert!(!vocabulary.allows(&hermes, &must, "Hello.") && !vocabulary.allows(&hermes, &must, ""));
    let time = "<tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>";
    assert!(vocabulary.allows(&hermes, &must, time));
    assert!(!vocabulary.allows(&hermes, &tools(ToolChoice::Named("weather".into())), time));
    // An answer in JSON is no call, in a format whose calls have no mark.
    let llama = family("llama-3");
    assert!(vocabulary.allows(&llama, &auto, "Hello {\"a\": 1}"));
    assert!(!vocabulary.allows(&llama, &must, "Hello"));
}

#[test]
fn a_call_can_be_undone_and_copied() {
    let vocabulary = vocabulary();
    for (name, call, style) in [CALLS[0], CALLS[1], CALLS[2]] {
        let text = with_arguments(call, &written(style, &[("city", json!("Rome")), ("days", json!(3))]));
        vocabulary.check_undoing(vocabulary.start(&family(name), &tools(ToolChoice::Auto)), &text);
    }
}

fn verdict() -> Value {
    json!({"type": "object", "required": ["ok"], "additionalProperties": false, "properties": {"ok": {"type": "boolean"}}})
}

const THOUGHT: &str = "<|channel|>analysis<|message|>Hm, to=functions.x is text.<|end|><|start|>assistant";
const CALL: &str = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>";

#[test]
fn in_channels_a_final_message_follows_the_format_and_a_call_its_schema() {
    let vocabulary = vocabulary();
    let auto = tools(ToolChoice::Auto);
    let none = Tools::default();
    let answer = |header: &str, text: &str| format!("{THOUGHT}<|channel|>{header}<|message|>{text}");
    for (tools, text, is_allowed) in [
        (&auto, answer("final", "{\"ok\":true}"), true),
        (&none, answer("final", "{\"ok\":true}"), true),
        (&auto, "<|channel|>final <|constrain|>json<|message|>{\"ok\": false}".to_owned(), true),
        (&auto, format!("{THOUGHT}{CALL}{{\"city\": \"Rome\"}}"), true),
        (&auto, format!("{CALL}{{\"days\": 3, \"city\": \"Rome\"}}"), true),
        (&auto, answer("final", "{\"ok\": 1}"), false),
        (&none, answer("final", "Yes."), false),
        (&auto, format!("{THOUGHT}{CALL}{{\"city\": 1}}"), false),
        (&auto, format!("{THOUGHT}{}{{\"city\": \"Rome\"}}", CALL.replace("weather", "wether")), false),
        (&none, format!("{THOUGHT}{CALL}{{\"city\": \"Rome\"}}"), false),
        // What the user would read beside the answer.
        (&auto, "<|channel|>commentary<|message|>Well.".to_owned(), false),
        (&auto, "<|message|>Well.".to_owned(), false),
        (&auto, "Well.".to_owned(), false),
        (&auto, "<|chan{\"ok\": true}".to_owned(), false),
        (&auto, THOUGHT.to_owned(), false),
        (&auto, String::new(), false),
    ] {
        let mut constraint = vocabulary.channelled(tools, Some(verdict()), None);
        let followed = vocabulary.follow(&mut *constraint, &text);
        assert_eq!(followed == (text.len(), true), is_allowed, "{text}: {followed:?}");
    }
    let plain = vocabulary.follow(&mut *vocabulary.channelled(&auto, Some(verdict()), None), "Well.");
    assert_eq!(plain.0, 0, "it would be read as the answer");
    for text in [answer("final", "{\"ok\":true}"), format!("{THOUGHT}{CALL}{{\"city\": \"Rome\"}}")] {
        vocabulary.check_undoing(vocabulary.channelled(&auto, Some(verdict()), None), &text);
    }
}

#[test]
fn in_channels_a_model_talks_until_it_calls() {
    let vocabulary = vocabulary();
    let auto = tools(ToolChoice::Auto);
    for (text, is_allowed) in [
        (format!("{THOUGHT}<|channel|>final<|message|>Say to=functions.x as you like."), true),
        (
            "<|channel|>commentary<|message|>I shall look.<|end|><|start|>assistant".to_owned()
                + CALL
                + "{\"city\": \"Rome\"}",
            true,
        ),
        (THOUGHT.to_owned(), true),
        (format!("{THOUGHT}{CALL}{{\"town\": \"Rome\"}}"), false),
    ] {
        let followed = vocabulary.follow(&mut *vocabulary.channelled(&auto, None, None), &text);
        assert_eq!(followed == (text.len(), true), is_allowed, "{text}: {followed:?}");
    }
}

#[test]
fn in_channels_a_required_call_is_what_follows_the_reasoning() {
    let vocabulary = vocabulary();
    let must = tools(ToolChoice::Required);
    let begun = "<|start|>assistant<|channel|>commentary to=functions.";
    let rest = "weather<|message|>{\"city\": \"Rome\"}";
    for before in ["<|channel|>analysis<|message|>Hm.<|end|>", "<|channel|>f", "<|channel|>final"] {
        let mut constraint = vocabulary.channelled(&must, None, None);
        let (at, may_end) = vocabulary.follow(&mut *constraint, before);
        assert!(at > 0 && !may_end, "{before}");
        let forced = vocabulary.take_forced(&mut *constraint);
        assert!(forced.ends_with(begun), "{before}: {forced:?}");
        assert_eq!(vocabulary.follow(&mut *constraint, rest), (rest.len(), true), "{before}");
    }
    let bad = "<|channel|>commentary to=functions.weather<|message|>{\"city\": 1}";
    assert!(vocabulary.follow(&mut *vocabulary.channelled(&must, None, None), bad).0 < bad.len());
}

#[test]
fn in_channels_a_budget_ends_the_reasoning() {
    let vocabulary = vocabulary();
    for (budget, before) in [(0, ""), (40, "<|channel|>analysis<|message|>")] {
        let mut constraint = vocabulary.channelled(&Tools::default(), Some(verdict()), Some(budget));
        assert_eq!(vocabulary.follow(&mut *constraint, before).0, before.len());
        let word = vocabulary.tokenizer.encode("a", false, false).expect("a token");
        while constraint.forced().is_empty() {
            constraint.accept(word[0]).expect("it is free");
        }
        let forced = vocabulary.take_forced(&mut *constraint);
        assert!(
            forced.ends_with("<|channel|>final<|message|>") && forced.contains("<|end|>") != before.is_empty(),
            "{forced}"
        );
        let answer = "{\"ok\": true}";
        assert_eq!(vocabulary.follow(&mut *constraint, answer), (answer.len(), true));
    }
}

/// Tokens chosen blindly among those allowed make a call that the parser reads and the schema allows.
#[test]
fn whatever_is_allowed_is_a_call() {
    let vocabulary = vocabulary();
    let texts: Vec<_> = vocabulary.texts().collect();
    let schema = json!({"type": "object", "required": ["n", "flag"], "additionalProperties": false, "properties": {
        "n": {"type": "integer", "minimum": -20, "maximum": 20}, "flag": {"type": "boolean"}, "pick": {"enum": ["red", "blue"]}}});
    let must = Tools {
        list: vec![tool("weather", schema)],
        parallel: false,
        choice: ToolChoice::Required,
        ..Tools::default()
    };
    let mut random = oorandom::Rand32::new(7);
    for (name, ..) in CALLS.iter().filter(|(_, call, _)| !call.contains('▁')) {
        let format = family(name);
        for _ in 0..6 {
            let mut constraint = vocabulary.start(&format, &must);
            let mut answer = Vec::new();
            while !constraint.is_complete() && answer.len() < 4000 {
                let mask = constraint.allowed().expect("a mask");
                let fits: Vec<_> = texts.iter().filter(|(id, _)| mask.allows(*id)).collect();
                if fits.is_empty() {
                    break;
                }
                let (token, bytes) = fits[random.rand_range(0..fits.len() as u32) as usize];
                constraint.accept(*token).expect("it was allowed");
                answer.extend_from_slice(bytes);
            }
            let answer = String::from_utf8(answer).expect("UTF-8");
            let calls = read(&format, &must, &answer);
            let valid = |arguments: &Value| {
                arguments["n"].as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() <= 20.0)
                    && arguments["flag"].is_boolean()
                    && matches!(arguments.get("pick").and_then(Value::as_str), None | Some("red" | "blue"))
            };
            assert!(calls.len() == 1 && calls[0].0 == "weather" && valid(&calls[0].1), "{name}: {answer:?} {calls:?}");
        }
    }
}

/// Talking costs nothing, however many tools there are.
#[test]
fn many_tools_cost_nothing_before_a_call() {
    let vocabulary = vocabulary();
    let schema = |index: usize| {
        json!({"type": "object", "required": ["path"], "properties": {
        "path": {"type": "string"}, "line": {"type": "integer"}, "options": {"type": "object", "properties": {
            "deep": {"type": "boolean"}, (format!("own_{index}")): {"type": "array", "items": {"type": "string"}}}}}})
    };
    let list = (0..263).map(|index| Tool { strict: false, ..tool(&format!("tool_{index}"), schema(index)) }).collect();
    let tools = Tools { list, ..Tools::default() };
    vocabulary.grammars.compile(&Format::any_object()).expect("the vocabulary's trie");
    let started = Instant::now();
    let mut constraint = vocabulary.start(&family("hermes"), &tools);
    let compiled = started.elapsed();
    let started = Instant::now();
    let words = "One day, a little girl named Lily found a needle in her room. ".repeat(20);
    let tokens = vocabulary.tokenizer.encode(&words, false, false).expect("tokens");
    for &token in &tokens {
        assert!(constraint.allowed().expect("a mask").allows(token));
        constraint.accept(token).expect("allowed");
    }
    let talked = started.elapsed() / tokens.len() as u32;
    let started = Instant::now();
    let call = "<tool_call>{\"name\": \"tool_200\", \"arguments\": {\"path\": \"/a/b\", \"options\": {\"own_200\": [\"x\"]}}}</tool_call>";
    assert_eq!(vocabulary.follow(&mut *constraint, call), (call.len(), true));
    println!("263 tools: compiled in {compiled:?}, {talked:?} a token of talk, a call in {:?}", started.elapsed());
}

#[test]
fn what_must_follow_within_a_call_is_known_and_allowed() {
    let vocabulary = vocabulary();
    let mut call = vocabulary.start(&family("hermes"), &tools(ToolChoice::Required));
    assert_eq!(vocabulary.take_forced(&mut *call).trim(), "<tool_call>");
    assert_eq!(vocabulary.follow(&mut *call, "{\"").0, 2);
    assert_eq!(vocabulary.take_forced(&mut *call), "name\"");
    assert_eq!(vocabulary.take_forced(&mut *call), "", "white space may follow, or none");
}
