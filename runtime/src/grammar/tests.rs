//! What grammars allow, on the vocabulary of a tiny model.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::sampling::TokenMask;
use crate::session::ModelSource;

fn grammars() -> Grammars {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/stories260K-f32.v3.gguf");
    let source = ModelSource::open(Some(Path::new(path))).expect("the model opens");
    Grammars::new(Arc::new(Tokenizer::from_gguf(&source.gguf.metadata).expect("its vocabulary")))
}

fn constraint(grammars: &Grammars, format: &Format) -> Box<dyn Constraint> {
    let grammar = grammars.compile(format).unwrap_or_else(|error| panic!("{format:?}: {error}"));
    grammar.constraint(grammars.tokenizer.end_tokens())
}

/// The longest token that `rest` begins with, of those that are allowed.
fn next_token(grammars: &Grammars, mask: &TokenMask, rest: &[u8]) -> Option<(TokenId, usize)> {
    let tokens = 0..grammars.tokenizer.vocab_size() as TokenId;
    let lengths = tokens.filter(|&id| mask.allows(id)).filter_map(|id| {
        let bytes = grammars.tokenizer.token_bytes(id, false);
        (!bytes.is_empty() && rest.starts_with(&bytes)).then_some((id, bytes.len()))
    });
    lengths.max_by_key(|(_, length)| *length)
}

/// Whether an answer may be exactly this.
fn allows(grammars: &Grammars, format: &Format, answer: &str) -> bool {
    let mut constraint = constraint(grammars, format);
    let mut rest = answer.as_bytes();
    while !rest.is_empty() {
        if constraint.is_complete() {
            return false;
        }
        let mask = constraint.allowed().expect("a mask");
        let Some((token, length)) = next_token(grammars, &mask, rest) else { return false };
        constraint.accept(token).expect("it was allowed");
        rest = &rest[length..];
    }
    constraint.is_complete() || {
        let mask = constraint.allowed().expect("a mask");
        grammars.tokenizer.end_tokens().iter().any(|&end| mask.allows(end)) || constraint.is_complete()
    }
}

#[track_caller]
fn check(grammars: &Grammars, format: &Format, valid: &[&str], invalid: &[&str]) {
    for answer in valid {
        assert!(allows(grammars, format, answer), "{format:?} must allow {answer}");
    }
    for answer in invalid {
        assert!(!allows(grammars, format, answer), "{format:?} must not allow {answer}");
    }
}

#[test]
fn schemas_are_followed_to_the_letter() {
    let grammars = grammars();
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 5},
            "mood": {"enum": ["glad", "sad", null]},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "scores": {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "maxItems": 2}, "minItems": 1},
        },
        "required": ["name", "mood", "scores"],
        "additionalProperties": false,
    });
    check(
        &grammars,
        &Format::Schema(person),
        &[
            r#"{"name":"Lily","mood":"glad","age":6,"scores":[[1,2.5]]}"#,
            r#"{ "name": "L", "mood": null, "scores": [[], [3]] }"#,
            "{\"name\":\"é\\n\",\n  \"mood\":\"sad\",\"scores\":[[]]}",
        ],
        &[
            r#"{"name":"","mood":"sad","scores":[[]]}"#,
            r#"{"name":"Lilian","mood":"sad","scores":[[]]}"#,
            r#"{"name":"Lily","mood":"mad","scores":[[]]}"#,
            r#"{"name":"Lily","mood":"sad","age":151,"scores":[[]]}"#,
            r#"{"name":"Lily","mood":"sad","age":1.5,"scores":[[]]}"#,
            r#"{"name":"Lily","mood":"sad","scores":[]}"#,
            r#"{"name":"Lily","mood":"sad","scores":[[1,2,3]]}"#,
            r#"{"name":"Lily","mood":"sad","scores":[[]],"more":1}"#,
            r#"{"name":"Lily","mood":"sad","scores":[[]]} and"#,
            r#"{"name":"Lily","mood":"sad"}"#,
            r#"{"name":"Lily","mood":"sad","scores":[[]]"#,
        ],
    );
    check(
        &grammars,
        &Format::any_object(),
        &["{}", r#"{"a":[1,{"b":null}]}"#],
        &["", "[]", "1", "{a:1}", "{\"a\":1,}"],
    );
    check(&grammars, &Format::Schema(json!(true)), &["1", "[]", "\"a\""], &["", "a"]);
    let tree = json!({"$ref": "#/$defs/tree", "$defs": {"tree": {
        "type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}, "additionalProperties": false}}});
    check(&grammars, &Format::Schema(tree), &["{}", r#"{"left":{"left":{}}}"#], &[r#"{"left":1}"#]);
}

/// Lists in `items`, as earlier drafts have them and generators of schemas still write them.
#[test]
fn lists_of_items_are_followed() {
    let grammars = grammars();
    let draft = "http://json-schema.org/draft-07/schema#";
    let pair = json!([{"type": "integer"}, {"enum": ["a", "b"]}]);
    let whole = json!({"$schema": draft, "type": "array", "items": pair, "minItems": 2, "maxItems": 2});
    check(
        &grammars,
        &Format::Schema(whole),
        &["[1,\"a\"]", "[ 1, \"b\" ]"],
        &["[1]", "[\"a\",1]", "[1,\"c\"]", "[1,\"a\",1]", "[]"],
    );
    let closed = json!({"type": "array", "items": pair, "additionalItems": false});
    check(&grammars, &Format::Schema(closed), &["[]", "[1]", "[1,\"a\"]"], &["[\"a\"]", "[1,\"a\",1]"]);
    let more = json!({"type": "object", "required": ["p"], "additionalProperties": false, "properties": {
        "p": {"type": "array", "items": pair, "additionalItems": {"type": "boolean"}, "minItems": 2}}});
    check(
        &grammars,
        &Format::Schema(more),
        &["{\"p\":[1,\"a\",true]}"],
        &["{\"p\":[1,\"a\",1]}", "{\"p\":[true,\"a\"]}"],
    );
}

#[test]
fn a_name_in_escapes_is_still_that_name() {
    let grammars = grammars();
    let schema = Format::Schema(json!({"type": "object", "properties": {"a": {"type": "integer"}}}));
    check(
        &grammars,
        &schema,
        &[r#"{"a":1}"#, r#"{"b":"x"}"#],
        &[r#"{"a":"x"}"#, "{\"\\u0061\":\"x\"}", r#"{"a":1,"a":"x"}"#],
    );
}

#[test]
fn dates_exist() {
    let grammars = grammars();
    let format = |name: &str| Format::Schema(json!({"type": "string", "format": name}));
    check(
        &grammars,
        &format("date"),
        &["\"2024-02-29\"", "\"2000-02-29\"", "\"1999-12-31\""],
        &["\"2023-02-29\"", "\"1900-02-29\"", "\"2023-04-31\"", "\"2023-13-01\"", "\"2023-1-1\"", "\"\""],
    );
    check(&grammars, &format("time"), &["\"23:59:59Z\"", "\"01:02:03.5+01:00\""], &["\"12:00:60Z\"", "\"12:00:00\""]);
    check(
        &grammars,
        &format("date-time"),
        &["\"2024-02-29T00:00:00Z\""],
        &["\"2023-02-29T00:00:00Z\"", "\"2024-02-29\""],
    );
}

#[test]
fn expressions_choices_and_grammars_are_followed() {
    let grammars = grammars();
    let regex = |regex: &str| Format::Regex(regex.to_owned());
    check(&grammars, &regex("[a-c]{2,3}(/x)?"), &["ab", "abc", "ab/x"], &["a", "abcd", "abx", ""]);
    check(&grammars, &regex(" x"), &[" x"], &["x"]);
    let choice = Format::Choice(vec!["yes".into(), "no (never)".into(), "a\"b\\c/d é".into()]);
    check(&grammars, &choice, &["yes", "no (never)", "a\"b\\c/d é"], &["ye", "yesno", "no ", "maybe"]);
    let sum = Format::Lark("start: number (\"+\" number)*\nnumber: /[0-9]+/\n".to_owned());
    check(&grammars, &sum, &["1", "12+3"], &["", "1+", "+1", "1 + 2"]);
}

/// Each is refused on one line that has this in it.
#[track_caller]
fn refused(grammars: &Grammars, format: &Format, part: &str) {
    let begun = Instant::now();
    let line = grammars.compile(format).expect_err(part).to_string();
    assert!(line.contains(part) && line.lines().count() == 1 && line.len() < 800, "{part}: {line}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{part} took {:?}", begun.elapsed());
}

#[test]
fn what_would_not_be_enforced_is_refused_with_its_place() {
    let grammars = grammars();
    let within = |schema: Value| json!({"type": "object", "properties": {"a": {"items": schema}}});
    for (schema, keyword) in [
        (json!({"not": {}}), "`not`"),
        (json!({"uniqueItems": true}), "`uniqueItems`"),
        (json!({"if": {}}), "`if`"),
        (json!({"contains": {}}), "`contains`"),
        (json!({"dependentRequired": {}}), "`dependentRequired`"),
        (json!({"unevaluatedProperties": false}), "`unevaluatedProperties`"),
        (json!({"nullable": true}), "`nullable`"),
        (json!({"minLenght": 3}), "`minLenght`"),
        (json!({"x-guidance": {"lenient": true}}), "`x-guidance`"),
        (json!({"format": "iri"}), "`format`"),
        (json!({"format": "unknown"}), "`format`"),
        (json!({"type": "text"}), "`type`"),
        (json!({"minLength": "3"}), "`minLength`"),
        (json!({"minimum": "3"}), "`minimum`"),
        (json!({"multipleOf": 0}), "`multipleOf`"),
        (json!({"const": 9_007_199_254_740_993_u64}), "`const`"),
        (json!({"enum": []}), "`enum`"),
        (json!({"const": "a\0b"}), "`const`"),
        (json!({"minProperties": 2}), "`minProperties`"),
        (json!({"items": [{}], "prefixItems": [{}]}), "`items`"),
        (json!({"items": {}, "additionalItems": false}), "`additionalItems`"),
        (json!({"items": []}), "`items`"),
        (json!({"$ref": "https://example.com/schema"}), "`$ref`"),
        (json!({"$ref": "#/properties/b"}), "`$ref`"),
        (json!({"$ref": "#name"}), "`$ref`"),
        (json!({"$id": "other"}), "`$id`"),
        // These the compiler refuses.
        (json!({"type": "string", "pattern": "(?=a)b"}), "`pattern`"),
        (json!({"oneOf": [{"type": "string"}, {"minLength": 2}]}), "`oneOf`"),
        (json!({"patternProperties": {"^a": {"type": "string"}, "a": {"type": "number"}}}), "`patternProperties`"),
    ] {
        refused(&grammars, &Format::Schema(within(schema)), &format!("{keyword} at #/properties/a/items/"));
    }
    refused(
        &grammars,
        &Format::Schema(json!({"$schema": "http://json-schema.org/draft-04/schema#"})),
        "`$schema` at #/$schema",
    );
    let old = json!({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [{}]});
    refused(&grammars, &Format::Schema(old), "`prefixItems` at #/prefixItems");
    refused(&grammars, &Format::Schema(json!(false)), "allows nothing");
    let unlikely = json!({"type": "string", "minLength": 3, "maxLength": 2});
    let nothing = json!({"type": "object", "properties": {"a": unlikely}, "required": ["a"]});
    refused(&grammars, &Format::Schema(nothing), "#/properties/a");
    for annotated in [
        json!({"x-order": 1, "title": "t", "default": 1}),
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema"}),
    ] {
        grammars.compile(&Format::Schema(annotated)).expect("nothing to enforce");
    }
}

#[test]
fn what_is_too_large_is_refused_soon() {
    let grammars = grammars();
    let nested = (0..40).fold(json!({}), |schema, _| json!({"items": schema}));
    refused(&grammars, &Format::Schema(nested), "schemas deep");
    let many: Vec<String> = (0..20_000).map(|at| format!("{at:x}")).collect();
    refused(&grammars, &Format::Schema(json!({"enum": many})), "bytes at most");
    refused(&grammars, &Format::Choice(many), "1 to 1000 texts");
    refused(&grammars, &Format::Regex("(".repeat(2000) + &")".repeat(2000)), "regular expression");
    refused(&grammars, &Format::Regex("(?<=x)y".to_owned()), "regular expression");
    refused(&grammars, &Format::Lark(format!("start: {}\"a\"{}", "(".repeat(9000), ")".repeat(9000))), "the grammar");
    refused(&grammars, &Format::Lark("start: %json {\"not\": {}}".to_owned()), "%json");
    refused(&grammars, &Format::Lark("start: <|im_end|>".to_owned()), "the grammar");
    refused(&grammars, &Format::Lark(String::new()), "the grammar");
}

/// Rules that lead from one to the next, as deep as a grammar's size lets them: each compiles or is refused.
#[test]
fn long_chains_of_rules_do_not_end_the_program() {
    let grammars = grammars();
    for (name, last) in [("r", "\"x\""), ("T", "\"x\"")] {
        let mut lark = format!("start: {name}0\n");
        let mut at = 0;
        while lark.len() < 60_000 {
            lark += &format!("{name}{at}: \"a\" {name}{} | \"b\"\n", at + 1);
            at += 1;
        }
        lark += &format!("{name}{at}: {last}\n");
        if let Ok(grammar) = grammars.compile(&Format::Lark(lark)) {
            let mut constraint = grammar.constraint(grammars.tokenizer.end_tokens());
            assert!(constraint.allowed().is_ok());
        }
    }
    let circular = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}});
    if let Ok(grammar) = grammars.compile(&Format::Schema(circular)) {
        let mut constraint = grammar.constraint(grammars.tokenizer.end_tokens());
        assert!(constraint.allowed().is_err() || !constraint.is_complete(), "nothing is valid there");
    }
}

#[test]
fn only_text_is_allowed_and_the_end_where_the_grammar_is() {
    let grammars = grammars();
    let tokenizer = Arc::clone(&grammars.tokenizer);
    let ends = tokenizer.end_tokens();
    let mut anything = constraint(&grammars, &Format::Regex("(.|\n)+".to_owned()));
    let mask = anything.allowed().unwrap();
    for id in 0..tokenizer.vocab_size() as TokenId {
        let is_text = !tokenizer.token_bytes(id, false).is_empty() && !tokenizer.is_control(id);
        assert!(is_text || !mask.allows(id), "token {id}");
    }
    let a = (0..).find(|&id| tokenizer.token_bytes(id, false).as_ref() == b"a").unwrap();
    assert!(mask.allows(a));
    anything.accept(a).unwrap();
    assert!(anything.allowed().unwrap().allows(ends[0]) && !anything.is_complete());

    let mut one = constraint(&grammars, &Format::Regex("ab?".to_owned()));
    assert!(one.accept(ends[0]).is_err(), "it is not allowed to end here");
    let mut one = constraint(&grammars, &Format::Regex("ab?".to_owned()));
    one.accept(a).unwrap();
    let fork = one.fork();
    one.accept(ends[0]).unwrap();
    assert!(one.is_complete() && !fork.is_complete());
    one.roll_back(2).unwrap();
    assert!(!one.is_complete() && one.allowed().unwrap().allows(a));
    assert!(one.accept(ends[0]).is_err());

    let mut endless = grammars.compile(&Format::Regex("ab?".to_owned())).unwrap().constraint(Arc::from([]));
    endless.accept(a).unwrap();
    assert!(!endless.is_complete() && !endless.allowed().unwrap().allows(ends[0]));
    let b = (0..).find(|&id| tokenizer.token_bytes(id, false).as_ref() == b"b").unwrap();
    endless.accept(b).unwrap();
    assert!(endless.is_complete(), "without a token to end it");
}

#[test]
fn compiled_grammars_are_kept_by_their_text() {
    let grammars = grammars();
    let schema = |first: &str, second: &str| {
        Format::Schema(json!({"type": "object", "properties": {first: {"type": "null"}, second: {"type": "null"}},
            "required": ["a", "b"], "additionalProperties": false}))
    };
    check(&grammars, &schema("a", "b"), &[r#"{"a":null,"b":null}"#], &[r#"{"b":null,"a":null}"#]);
    check(&grammars, &schema("b", "a"), &[r#"{"b":null,"a":null}"#], &[r#"{"a":null,"b":null}"#]);
    assert_eq!(grammars.kept.lock().unwrap().len(), 2);
    for at in 0..KEPT {
        grammars.compile(&Format::Regex(format!("a{{{at}}}"))).unwrap();
    }
    assert_eq!(grammars.kept.lock().unwrap().len(), KEPT);
}

#[test]
fn grammars_of_llama_cpp_are_followed() {
    let grammars = grammars();
    let gbnf = |text: &str| Format::Gbnf(text.to_owned());
    let list = gbnf(
        "# a list\nroot ::= \"- \" item-x (\n  \"\\n- \" item-x # and more\n)*\nitem-x ::= [a-z0-9_]+ | \"\\x41\" |\n  \"\"\n",
    );
    check(&grammars, &list, &["- ab_1", "- A\n- b", "- "], &["", "-", "- AA", "- a\n"]);
    // The longest literal is not the only one.
    check(&grammars, &gbnf("root ::= (\"a\" | \"ab\") \"bc\""), &["abc", "abbc"], &["ab", "abb"]);
    check(&grammars, &gbnf("root ::= [^\"\\n]{2,3} \".\"? .{2}"), &["ab.cd", "abc\nd", "é/.xx"], &["a.", "\"\"xx"]);
    check(&grammars, &gbnf("root ::= \"x\" [-a]{3} [\\]\\-]"), &["x-a-]", "xaaa-"], &["xaaaa", "x--"]);
    check(&grammars, &gbnf("root ::= \"(\" root \")\" | \"\""), &["()", "(())", ""], &["(", "())"]);
    for (text, part) in [
        ("root ::= a", "no rule `a`"),
        ("a ::= \"a\"", "no rule `root`"),
        ("root ::= \"a", "line 1"),
        ("root ::= \"a\"\nroot ::= \"b\"", "line 2"),
        ("root = \"a\"", "line 1"),
        ("root ::= [a]{x}", "line 1"),
        ("root ::= [a", "line 1"),
        ("root ::= <think>", "tokens"),
        ("root ::= \"\\q\"", "escape"),
        ("root ::= \"a\" )", "line 1"),
    ] {
        refused(&grammars, &gbnf(text), part);
    }
    refused(
        &grammars,
        &gbnf(&format!("root ::= {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000))),
        "nested too deeply",
    );
}

#[test]
fn what_must_follow_is_known_ahead_and_knowing_it_changes_nothing() {
    let grammars = grammars();
    let format = Format::Regex("(glad|sad) is the whole answer".to_owned());
    let (mut asked, mut other) = (constraint(&grammars, &format), constraint(&grammars, &format));
    assert!(asked.forced().is_empty(), "there is a choice");
    let mut rest = &b"sad is the whole answer"[..];
    while !rest.is_empty() {
        let forced = asked.forced();
        let mask = asked.allowed().expect("a mask");
        assert_eq!(mask, other.allowed().expect("a mask"), "before {rest:?}");
        if rest.len() < 23 {
            let bytes: Vec<u8> =
                forced.iter().flat_map(|&id| grammars.tokenizer.token_bytes(id, false).into_owned()).collect();
            assert_eq!(bytes, rest, "all of it, in tokens of the vocabulary");
            assert!(mask.allows(forced[0]));
        }
        let (token, length) = next_token(&grammars, &mask, rest).expect("a token");
        asked.accept(token).expect("it was allowed");
        other.accept(token).expect("it was allowed");
        rest = &rest[length..];
    }
    assert!(asked.forced().is_empty());
}
