//! The formats of the families that people run, as data: what the parser and the grammar know of them is here.
//!
//! A family is recognised by what its chat template contains, since fine-tunes keep the template and change the name. The table is
//! in order: the first row whose texts are all in the template counts.

use std::borrow::Cow;

use super::tree::Notation;

/// A text that stands for something in a format: a control token's name, or text.
pub(super) type Mark = Cow<'static, str>;

/// How a model writes reasoning and calls.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Format {
    pub(super) name: &'static str,
    /// What is around reasoning, in each way that the family writes it.
    pub(super) reasoning: Vec<(Mark, Mark)>,
    /// Marks that end reasoning, too, and mean something after it.
    pub(super) answer: Vec<Mark>,
    /// What is around all calls of an answer.
    pub(super) section: Option<Section>,
    pub(super) calls: Calls,
    /// Marks that part an answer and are not part of it.
    pub(super) dropped: Vec<Mark>,
    /// The answer is messages on channels, gpt-oss's format.
    pub(super) channels: bool,
}

/// What is around all calls of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Section {
    pub(super) open: Mark,
    pub(super) close: Mark,
    /// Its marks are control tokens, so that what is in it and no call is noise; else it is text.
    pub(super) sure: bool,
}

/// How calls are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Calls {
    None,
    Objects(Objects),
    Named(Named),
    Fields(Fields),
    Python(Python),
}

/// JSON objects with name and arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Objects {
    /// Empty: a call is an answer that begins with one.
    pub(super) open: Mark,
    pub(super) close: Mark,
    /// The names of its members, as the grammar writes them.
    pub(super) keys: (&'static str, &'static str),
    /// How the grammar writes several calls.
    pub(super) list: bool,
}

impl Format {
    /// All marks.
    pub(super) fn marks(&self) -> impl Iterator<Item = &str> {
        let calls: Vec<&Mark> = match &self.calls {
            Calls::None => Vec::new(),
            Calls::Objects(format) => vec![&format.open, &format.close],
            Calls::Named(format) => [&format.open, &format.close].into_iter().chain(&format.between).collect(),
            Calls::Fields(format) => vec![
                &format.open,
                &format.name_end,
                &format.body,
                &format.close,
                &format.key,
                &format.key_end,
                &format.value,
                &format.value_end,
            ],
            Calls::Python(format) => vec![&format.open, &format.close],
        };
        let reasoning = self.reasoning.iter().flat_map(|(open, close)| [open, close]);
        let section = self.section.iter().flat_map(|section| [&section.open, &section.close]);
        let all = calls.into_iter().chain(reasoning).chain(section).chain(&self.answer).chain(&self.dropped);
        all.map(|mark| &**mark)
    }
}

impl Objects {
    pub(super) fn is_bare(&self) -> bool {
        self.open.is_empty()
    }
}

/// A name, then the arguments as an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) open: Mark,
    /// What is between name, id and arguments.
    pub(super) between: Vec<Mark>,
    pub(super) close: Mark,
    pub(super) notation: Notation,
    pub(super) id: Id,
    /// What follows the mark may also be an array of objects, as older models of the family write.
    pub(super) or_list: bool,
}

/// Where a call's id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    None,
    Before,
    After,
    /// It holds the name: `functions.get_weather:0`.
    Kimi,
}

/// A name, then a tag for each argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fields {
    pub(super) open: Mark,
    /// Empty: the name ends with its line, or where a tag begins.
    pub(super) name_end: Mark,
    /// Ends the tag that has the name, where more may be in it.
    pub(super) body: Mark,
    pub(super) close: Mark,
    pub(super) key: Mark,
    pub(super) key_end: Mark,
    /// Begins the value, where that is not with `key_end`; what is between them are attributes.
    pub(super) value: Mark,
    /// `{}` stands for the key.
    pub(super) value_end: Mark,
    /// Values are on lines of their own.
    pub(super) lines: bool,
    /// Names have XML's entities.
    pub(super) escaped: bool,
}

/// A list of calls in Python's syntax.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Python {
    /// Empty: a call is an answer that begins with one.
    pub(super) open: Mark,
    pub(super) close: Mark,
}

impl Python {
    pub(super) fn is_bare(&self) -> bool {
        self.open.is_empty()
    }
}

impl Calls {
    /// The mark that begins a call; empty where there is none.
    pub(super) fn open(&self) -> &str {
        match self {
            Self::None => "",
            Self::Objects(format) => &format.open,
            Self::Named(format) => &format.open,
            Self::Fields(format) => &format.open,
            Self::Python(format) => &format.open,
        }
    }

    /// The mark that ends a call; empty where there is none.
    pub(super) fn close(&self) -> &str {
        match self {
            Self::None => "",
            Self::Objects(format) => &format.close,
            Self::Named(format) => &format.close,
            Self::Fields(format) => &format.close,
            Self::Python(format) => &format.close,
        }
    }

    /// Calls have no mark: an answer is one if it begins so.
    pub(super) fn is_bare(&self) -> bool {
        *self != Self::None && self.open().is_empty()
    }
}

/// A row of the table.
struct Row {
    /// Texts that are all in the family's templates.
    has: &'static [&'static str],
    format: fn() -> Format,
}

const ROWS: &[Row] = &[
    Row { has: &["<|channel|>", "<|message|>", "functions."], format: gpt_oss },
    Row { has: &["<|open|>", "<|sep|>", "argument"], format: kimi_k3 },
    Row { has: &["<|tool_call_argument_begin|>"], format: kimi_k2 },
    Row { has: &["｜DSML｜", "function_calls"], format: || dsml("deepseek-v3.2", "", "function_calls") },
    Row { has: &["｜DSML｜ "], format: || dsml("deepseek-v4.1", " ", "calls") },
    Row { has: &["｜DSML｜"], format: || dsml("deepseek-v4", "", "tool_calls") },
    Row { has: &["<｜tool▁calls▁begin｜>"], format: deepseek },
    Row { has: &["<|tool_call>", "call:"], format: gemma_4 },
    Row { has: &["[TOOL_CALLS]"], format: mistral },
    Row { has: &["<|tool_call:begin|>", "<|tool_call:args|>"], format: solar },
    Row { has: &["<seed:tool_call>"], format: seed },
    Row { has: &["]<]minimax[>[", "<invoke name="], format: minimax_m3 },
    Row { has: &["]<]minimax[>["], format: minimax_m3 },
    Row { has: &["<minimax:tool_call>"], format: minimax_m2 },
    Row { has: &["<atem:function_calls>"], format: muse },
    Row { has: &["<tool_calls{}>", "<arg_key{}>"], format: hunyuan_3 },
    Row { has: &["<arg_key>", "<tool_call>"], format: glm },
    Row { has: &["<tool_call>", "<function=", "<parameter="], format: || qwen_xml("qwen3-coder") },
    Row { has: &["<function name=", "<param name="], format: minicpm },
    Row { has: &["<function=", "</function>"], format: functionary_31 },
    Row { has: &[">>>", "recipient"], format: functionary_32 },
    Row { has: &["<|START_ACTION|>"], format: command_r7b },
    Row { has: &["<|tools_prefix|>"], format: apertus },
    Row { has: &["<|tool_call_start|>"], format: lfm_2 },
    Row { has: &["<|tool_list_start|>"], format: lfm_2 },
    Row { has: &["List of tools: "], format: lfm_2 },
    Row { has: &["TOOLCALL>"], format: || objects("nemotron-v2", "<TOOLCALL>", "</TOOLCALL>", true) },
    Row { has: &["<tool_calls>"], format: || objects("tool-calls", "<tool_calls>", "</tool_calls>", true) },
    Row { has: &["functools"], format: || objects("functools", "functools", "", true) },
    Row { has: &["<|function_call|>"], format: || objects("gigachat", "<|function_call|>", "", false) },
    Row { has: &["function call", "<|role_sep|>"], format: gigachat_3 },
    Row {
        has: &["<|tool_call|>", "<|/tool_call|>"],
        format: || objects("phi-4", "<|tool_call|>", "<|/tool_call|>", true),
    },
    Row { has: &["<|tool_call|>"], format: || objects("granite-3", "<|tool_call|>", "", true) },
    Row { has: &["<|python_start|>"], format: llama_4 },
    Row { has: &["<tool_call>"], format: hermes },
    Row { has: &["xml_tools"], format: hermes },
    Row { has: &["ipython", "\"parameters\": "], format: llama_3 },
    Row { has: &["<|python_tag|>"], format: llama_3 },
];

/// The format of a template that one of the families wrote.
pub(super) fn of_template(source: &str) -> Option<Format> {
    let row = ROWS.iter().find(|row| row.has.iter().all(|text| source.contains(text)))?;
    let mut format = (row.format)();
    // The newer of two that are alike reason.
    if format.reasoning.is_empty() && source.contains("<think>") {
        format.reasoning = think();
    }
    Some(format)
}

/// A family's format by its name in the table.
pub(super) fn named(name: &str) -> Option<Format> {
    ROWS.iter().map(|row| (row.format)()).find(|format| format.name == name)
}

const fn mark(text: &'static str) -> Mark {
    Cow::Borrowed(text)
}

pub(super) fn think() -> Vec<(Mark, Mark)> {
    vec![(mark("<think>"), mark("</think>"))]
}

fn described(name: &'static str, calls: Calls) -> Format {
    let (reasoning, answer, dropped) = (Vec::new(), Vec::new(), Vec::new());
    Format { name, reasoning, answer, section: None, calls, dropped, channels: false }
}

/// No calls; `<think>` where the template knows it.
pub(super) fn plain(source: &str) -> Format {
    let reasoning = if source.contains("<think>") || source.contains("</think>") { think() } else { Vec::new() };
    Format { reasoning, ..described("plain", Calls::None) }
}

/// For a model that is told of tools in words: Hermes's calls, and reasoning as the template or its family has it.
pub(super) fn fallback(source: &str) -> Format {
    let family = of_template(source).filter(|family| !family.channels);
    let reasoning = family.map_or_else(|| plain(source).reasoning, |family| family.reasoning);
    Format { name: "fallback", reasoning, ..hermes() }
}

/// A format that a template showed; `<think>` where the template knows it.
pub(super) fn inferred(source: &str, calls: Calls) -> Format {
    Format { name: "inferred", calls, ..plain(source) }
}

/// JSON objects between two marks.
pub(super) fn objects(name: &'static str, open: &'static str, close: &'static str, list: bool) -> Format {
    let keys = ("name", "arguments");
    described(name, Calls::Objects(Objects { open: mark(open), close: mark(close), keys, list }))
}

pub(super) fn hermes() -> Format {
    Format { reasoning: think(), ..objects("hermes", "<tool_call>", "</tool_call>", false) }
}

fn gigachat_3() -> Format {
    Format { dropped: vec![mark("<|message_sep|>")], ..objects("gigachat-3", "function call<|role_sep|>", "", false) }
}

fn llama_3() -> Format {
    let keys = ("name", "parameters");
    let objects = Objects { open: mark(""), close: mark(""), keys, list: false };
    Format { dropped: vec![mark("<|python_tag|>")], ..described("llama-3", Calls::Objects(objects)) }
}

fn llama_4() -> Format {
    let calls = Calls::Python(Python { open: mark(""), close: mark("") });
    Format { dropped: vec![mark("<|python_start|>"), mark("<|python_end|>")], ..described("llama-4", calls) }
}

fn lfm_2() -> Format {
    let calls = Python { open: mark("<|tool_call_start|>"), close: mark("<|tool_call_end|>") };
    Format { reasoning: think(), ..described("lfm2", Calls::Python(calls)) }
}

fn gpt_oss() -> Format {
    Format { channels: true, ..described("gpt-oss", Calls::None) }
}

fn json_after(open: &'static str, between: &[&'static str], close: &'static str, id: Id) -> Named {
    let between = between.iter().map(|text| mark(text)).collect();
    Named { open: mark(open), between, close: mark(close), notation: Notation::Json, id, or_list: false }
}

fn mistral() -> Format {
    let calls = Named { or_list: true, ..json_after("[TOOL_CALLS]", &["[ARGS]", "[CALL_ID]"], "", Id::After) };
    let reasoning = vec![(mark("[THINK]"), mark("[/THINK]")), (mark("<think>"), mark("</think>"))];
    Format { reasoning, ..described("mistral", Calls::Named(calls)) }
}

fn deepseek() -> Format {
    let calls = json_after("<｜tool▁call▁begin｜>", &["<｜tool▁sep｜>", "```json"], "<｜tool▁call▁end｜>", Id::None);
    let section =
        Section { open: mark("<｜tool▁calls▁begin｜>"), close: mark("<｜tool▁calls▁end｜>"), sure: true };
    Format { reasoning: think(), section: Some(section), ..described("deepseek-v3", Calls::Named(calls)) }
}

fn kimi_k2() -> Format {
    let calls = json_after("<|tool_call_begin|>", &["<|tool_call_argument_begin|>"], "<|tool_call_end|>", Id::Kimi);
    let (open, close) = (mark("<|tool_calls_section_begin|>"), mark("<|tool_calls_section_end|>"));
    let section = Section { open, close, sure: true };
    Format { reasoning: think(), section: Some(section), ..described("kimi-k2", Calls::Named(calls)) }
}

fn gemma_4() -> Format {
    let calls = json_after("<|tool_call>call:", &[], "<tool_call|>", Id::None);
    Format {
        reasoning: vec![(mark("<|channel>thought"), mark("<channel|>"))],
        dropped: vec![mark("<|tool_response>"), mark("<turn|>")],
        ..described("gemma-4", Calls::Named(Named { notation: Notation::Gemma, ..calls }))
    }
}

fn solar() -> Format {
    let between = ["<|tool_call:name|>", "<|tool_call:args|>"];
    let calls = json_after("<|tool_call:begin|>", &between, "<|tool_call:end|>", Id::Before);
    Format {
        reasoning: vec![(mark("<|think|>"), mark("<|end|>"))],
        section: Some(Section { open: mark("<|tool_calls|>"), close: mark("<|calls|>"), sure: true }),
        dropped: vec![mark("<|begin|>assistant"), mark("<|content|>"), mark("<|end|>")],
        ..described("solar", Calls::Named(calls))
    }
}

fn functionary_31() -> Format {
    described("functionary-3.1", Calls::Named(json_after("<function=", &[">"], "</function>", Id::None)))
}

fn functionary_32() -> Format {
    let calls = json_after(">>>", &["\n"], "", Id::None);
    Format { dropped: vec![mark(">>>all\n")], ..described("functionary-3.2", Calls::Named(calls)) }
}

fn command_r7b() -> Format {
    let (open, close) = (mark("<|START_ACTION|>"), mark("<|END_ACTION|>"));
    let calls = Objects { open, close, keys: ("tool_name", "parameters"), list: true };
    let dropped = ["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"];
    Format {
        reasoning: vec![(mark("<|START_THINKING|>"), mark("<|END_THINKING|>"))],
        dropped: dropped.map(mark).into(),
        ..described("command-r7b", Calls::Objects(calls))
    }
}

fn apertus() -> Format {
    let (open, close) = (mark("<|tools_prefix|>"), mark("<|tools_suffix|>"));
    // Objects of one member, whose name is the function's.
    let calls = Objects { open, close, keys: ("", ""), list: true };
    let reasoning = vec![(mark("<|inner_prefix|>"), mark("<|inner_suffix|>"))];
    Format { reasoning, ..described("apertus", Calls::Objects(calls)) }
}

/// Tags whose names follow an equals sign, values on lines of their own.
fn equals_tags(lines: bool) -> Fields {
    Fields {
        open: mark("<function="),
        name_end: mark(">"),
        body: mark(""),
        close: mark("</function>"),
        key: mark("<parameter="),
        key_end: mark(">"),
        value: mark(""),
        value_end: mark("</parameter>"),
        lines,
        escaped: false,
    }
}

fn qwen_xml(name: &'static str) -> Format {
    let section = Section { open: mark("<tool_call>"), close: mark("</tool_call>"), sure: false };
    Format { reasoning: think(), section: Some(section), ..described(name, Calls::Fields(equals_tags(true))) }
}

fn seed() -> Format {
    Format {
        reasoning: vec![(mark("<seed:think>"), mark("</seed:think>"))],
        section: Some(Section { open: mark("<seed:tool_call>"), close: mark("</seed:tool_call>"), sure: false }),
        ..described("seed-oss", Calls::Fields(equals_tags(false)))
    }
}

fn glm() -> Format {
    let calls = Fields {
        open: mark("<tool_call>"),
        name_end: mark(""),
        close: mark("</tool_call>"),
        key: mark("<arg_key>"),
        key_end: mark("</arg_key>"),
        value: mark("<arg_value>"),
        value_end: mark("</arg_value>"),
        ..equals_tags(false)
    };
    Format { reasoning: think(), ..described("glm", Calls::Fields(calls)) }
}

fn hunyuan_3() -> Format {
    let calls = Fields {
        open: mark("<tool_call:opensource>"),
        name_end: mark("<tool_sep:opensource>"),
        close: mark("</tool_call:opensource>"),
        key: mark("<arg_key:opensource>"),
        key_end: mark("</arg_key:opensource>"),
        value: mark("<arg_value:opensource>"),
        value_end: mark("</arg_value:opensource>"),
        ..equals_tags(false)
    };
    let (open, close) = (mark("<tool_calls:opensource>"), mark("</tool_calls:opensource>"));
    Format {
        reasoning: vec![(mark("<think:opensource>"), mark("</think:opensource>"))],
        section: Some(Section { open, close, sure: true }),
        ..described("hunyuan-3", Calls::Fields(calls))
    }
}

/// Tags whose names are attributes; `prefix` is what all of them begin with.
fn attribute_tags(prefix: &str, field: &str) -> Fields {
    let tag = |text: String| -> Mark { Cow::Owned(text) };
    Fields {
        open: tag(format!("<{prefix}invoke name=\"")),
        name_end: mark("\""),
        body: mark(">"),
        close: tag(format!("</{prefix}invoke>")),
        key: tag(format!("<{prefix}{field} name=\"")),
        key_end: mark("\""),
        value: mark(">"),
        value_end: tag(format!("</{prefix}{field}>")),
        lines: false,
        escaped: false,
    }
}

fn dsml(name: &'static str, space: &str, section: &str) -> Format {
    let (open, close) = (format!("<｜DSML｜{space}{section}>"), format!("</｜DSML｜{space}{section}>"));
    Format {
        reasoning: think(),
        section: Some(Section { open: Cow::Owned(open), close: Cow::Owned(close), sure: true }),
        ..described(name, Calls::Fields(attribute_tags(&format!("｜DSML｜{space}"), "parameter")))
    }
}

fn minimax_m2() -> Format {
    let section = Section { open: mark("<minimax:tool_call>"), close: mark("</minimax:tool_call>"), sure: true };
    let calls = Calls::Fields(attribute_tags("", "parameter"));
    Format { reasoning: think(), section: Some(section), ..described("minimax-m2", calls) }
}

fn minimax_m3() -> Format {
    let calls = Fields {
        open: mark("]<]minimax[>[<invoke name=\""),
        close: mark("]<]minimax[>[</invoke>"),
        key: mark("]<]minimax[>[<"),
        key_end: mark(">"),
        value: mark(""),
        value_end: mark("]<]minimax[>[</{}>"),
        ..attribute_tags("", "parameter")
    };
    let (open, close) = (mark("]<]minimax[>[<tool_call>"), mark("]<]minimax[>[</tool_call>"));
    Format {
        reasoning: vec![(mark("<mm:think>"), mark("</mm:think>")), (mark("<think>"), mark("</think>"))],
        section: Some(Section { open, close, sure: true }),
        ..described("minimax-m3", Calls::Fields(calls))
    }
}

fn muse() -> Format {
    let (open, close) = (mark("<atem:function_calls>"), mark("</atem:function_calls>"));
    Format {
        reasoning: vec![(mark("<|start|>assistant to=self<|message|>"), mark("<|eom|>"))],
        section: Some(Section { open, close, sure: false }),
        ..described("muse", Calls::Fields(attribute_tags("atem:", "parameter")))
    }
}

fn minicpm() -> Format {
    let calls = Fields { open: mark("<function name=\""), close: mark("</function>"), ..attribute_tags("", "param") };
    Format { reasoning: think(), ..described("minicpm-5", Calls::Fields(calls)) }
}

fn kimi_k3() -> Format {
    let calls = Fields {
        open: mark("<|open|>call tool=\""),
        body: mark("<|sep|>"),
        close: mark("<|close|>call<|sep|>"),
        key: mark("<|open|>argument key=\""),
        value: mark("<|sep|>"),
        value_end: mark("<|close|>argument<|sep|>"),
        escaped: true,
        ..attribute_tags("", "argument")
    };
    let (open, close) = (mark("<|open|>tools<|sep|>"), mark("<|close|>tools<|sep|>"));
    let dropped = ["<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"];
    Format {
        reasoning: vec![(mark("<|open|>think<|sep|>"), mark("<|close|>think<|sep|>"))],
        answer: vec![mark("<|open|>response<|sep|>"), mark("<|open|>tools<|sep|>")],
        section: Some(Section { open, close, sure: true }),
        dropped: dropped.map(mark).into(),
        ..described("kimi-k3", Calls::Fields(calls))
    }
}
