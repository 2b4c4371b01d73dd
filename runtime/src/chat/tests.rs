//! Real models' templates against Python's renderings, details of Python's semantics, and hostile templates.

use std::time::Instant;

use super::*;

fn render(source: &str, variables: Value) -> Result<String, TemplateError> {
    let extra = variables.as_object().cloned().unwrap_or_default();
    ChatTemplate::new(source, "<s>", "</s>")?.render(&RenderRequest { extra, ..Default::default() })
}

fn expression(source: &str) -> String {
    let variables = serde_json::json!({
        "d": {"b": 1, "a": [1.0, true, null, "it's"], "é": 1e20}, "e": [], "l": [3, 1, 2], "s": "héllo wörld",
        "m": "a\r\nb\n\u{2028}c", "long": 9007199254740993_i64,
    });
    match render(&format!("{{{{ {source} }}}}"), variables) {
        Ok(text) => text,
        Err(error) => format!("ERROR {error}"),
    }
}

#[test]
fn templates_of_real_models_render_as_in_python() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/chat-templates");
    let data: Value = serde_json::from_slice(&std::fs::read(dir.join("cases.json")).unwrap()).unwrap();
    let cases = data["cases"].as_array().unwrap();
    let now = Some(jiff::civil::datetime(2026, 3, 14, 15, 9, 26, 0));
    let (mut rendered, mut failed) = (0, 0);
    for case in cases {
        let (name, conversation) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let source = std::fs::read_to_string(dir.join(name)).unwrap();
        let conversation_data = &data["conversations"][conversation];
        let request = RenderRequest {
            messages: conversation_data["messages"].as_array().unwrap().clone(),
            tools: conversation_data.get("tools").cloned(),
            add_generation_prompt: case[2].as_bool().unwrap(),
            extra: Map::new(),
        };
        let got = ChatTemplate::new(&source, "<s>", "</s>").and_then(|t| t.render_at(&request, now));
        match (got, case[3]["expected"].as_str(), case[3]["error"].as_str()) {
            (got, Some(expected), _) => {
                assert_eq!(got.as_deref(), Ok(expected), "{name}, {conversation}");
                rendered += 1;
            }
            (got, None, error) => {
                let (got, error) = (got.unwrap_err(), error.unwrap());
                if let Some(raised) = error.strip_prefix("TemplateError: ") {
                    assert_eq!(got, TemplateError::Raised(raised.into()), "{name}, {conversation}");
                }
                failed += 1;
            }
        }
    }
    println!("{rendered} renderings and {failed} errors as in Python, of {}", cases.len());
    assert_eq!((rendered, failed), (340, 10));
}

#[test]
fn values_print_as_in_python() {
    for (source, expected) in [
        ("d", "{'b': 1, 'a': [1.0, True, None, \"it's\"], 'é': 1e+20}"),
        ("d | tojson", r#"{"b": 1, "a": [1.0, true, null, "it's"], "é": 1e+20}"#),
        ("d | tojson(ensure_ascii=True)", r#"{"b": 1, "a": [1.0, true, null, "it's"], "\u00e9": 1e+20}"#),
        ("d | tojson(sort_keys=true, separators=(',', ':'))", r#"{"a":[1.0,true,null,"it's"],"b":1,"é":1e+20}"#),
        ("{'a': [], 'b': [1, {}]} | tojson(indent=2)", "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {}\n  ]\n}"),
        (r#""\u0001\n\"\\/" | tojson"#, r#""\u0001\n\"\\/""#),
        ("'<&>' | tojson", "\"<&>\""),
        ("true", "True"),
        ("none", "None"),
        ("missing", ""),
        ("[missing, none, 'x'] | string", "[Undefined, None, 'x']"),
        ("1.0", "1.0"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("1e16", "1e+16"),
        ("1e-5", "1e-05"),
        ("7 // 2", "3"),
        ("7 / 2", "3.5"),
        ("-7 % 3", "2"),
        ("true + 1", "2"),
        ("long", "9007199254740993"),
        ("(1, 'a')", "(1, 'a')"),
        ("(1,)", "(1,)"),
        ("1 ~ none ~ 2.0", "1None2.0"),
        ("'a' * 3 ~ 2 * 'b'", "aaabb"),
        ("[0] * 3", "[0, 0, 0]"),
        ("l + [4]", "[3, 1, 2, 4]"),
        ("'%s is %d' | format('x', 3)", "x is 3"),
        ("'a' if false", ""),
    ] {
        assert_eq!(expression(source), expected, "{source}");
    }
}

#[test]
fn methods_slices_and_tests_are_pythons() {
    for (source, expected) in [
        ("s[0] ~ s[-1] ~ s[1:3] ~ s[::-1]", "hdéldlröw olléh"),
        ("l[1:]", "[1, 2]"),
        ("l[::-1]", "[2, 1, 3]"),
        ("l[-2:]", "[1, 2]"),
        ("l[5:] ~ e[::-1] ~ ''[::-1] ~ l[::-5] ~ l[2:0:-1] ~ l[:-9]", "[][][2][2, 1][]"),
        ("s.split(' ')[1].upper()", "WÖRLD"),
        ("' a b  c '.split()", "['a', 'b', 'c']"),
        ("'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"),
        ("' a b  c '.rsplit(none, 1)", "[' a b', 'c']"),
        ("m.splitlines()", "['a', 'b', '', 'c']"),
        ("'x=y=z'.partition('=')", "('x', '=', 'y=z')"),
        ("'x=y=z'.rpartition('=')", "('x=y', '=', 'z')"),
        ("'prefix-x'.removeprefix('prefix-') ~ 'x.py'.removesuffix('.py')", "xx"),
        ("'7'.zfill(3) ~ '-7'.zfill(4) ~ '|' ~ 'a'.center(4) ~ '|' ~ 'ab'.center(5, '*')", "007-007| a  |**ab*"),
        ("'ab'.rjust(4) ~ 'ab'.ljust(4, '.')", "  abab.."),
        ("'a-b'.replace('-', '+') ~ 'aaa'.replace('a', 'b', 2)", "a+bbba"),
        ("', '.join(['a', 'b'])", "a, b"),
        ("'abc'.index('c') ~ l.index(1) ~ 'a'.startswith(('b', 'a'))", "21True"),
        ("'{} {x}'.format(1, x=2)", "1 2"),
        ("d.get('zz', 'no') ~ d.get('b') ~ d.get('zz')", "no1None"),
        ("d.keys() | list", "['b', 'a', 'é']"),
        ("d.items() | list | length", "3"),
        ("none is iterable", "False"),
        ("s is iterable and d is iterable and missing is iterable", "True"),
        ("s is sequence and l[1:] is sequence and d is sequence", "True"),
        ("d is mapping and l is not mapping", "True"),
        ("true is number and true is not integer and 1 is integer", "True"),
        ("'a\nb\n\nc' | indent(2)", "a\n  b\n\n  c"),
        ("'a\nb' | indent(width='> ', first=true)", "> a\n> b"),
        ("[{'n': 'x'}, {'n': 'y'}] | join('-', attribute='n')", "x-y"),
        ("l | map('string') | join('+')", "3+1+2"),
        ("'<' | safe + '>'", "<&gt;"),
        ("'<' | safe ~ '>'", "<>"),
    ] {
        assert_eq!(expression(source), expected, "{source}");
    }
}

#[test]
fn whitespace_loops_macros_and_namespaces_work() {
    let source = "\
{%- set ns = namespace(count=0, text='') %}
{% macro item(x, end='.') %}<{{ x }}{{ end }}>{% endmacro %}
{% for x in [1, 2, 3, 4] %}
    {% if x == 2 %}{% continue %}{% endif %}
    {% if x == 4 %}{% break %}{% endif %}
    {% set ns.count = ns.count + 1 %}
{{ item(x, end='!') }}{{ loop.index0 }}{{ loop.last }}
{% endfor %}
{% set ns.text %}n={{ ns.count }}{% endset %}
{%- call(y) item2() %}{{ y }}{% endcall %}
{{- ns.text }} {{ strftime_now('%Y') | length }}{{ bos_token }}";
    let error = render(source, Value::Null).unwrap_err();
    assert_eq!(error.to_string(), "the chat template failed at line 10: 'item2' is undefined");
    let source = source.replace("{%- call(y) item2() %}{{ y }}{% endcall %}\n", "");
    assert_eq!(render(&source, Value::Null).unwrap(), "<1!>0False\n<3!>2False\nn=2 4<s>");
    let recursive = "{% for x in t recursive %}{{ x.n }}{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}";
    let tree = serde_json::json!({"t": [{"n": 1, "c": [{"n": 2}, {"n": 3}]}]});
    assert_eq!(render(recursive, tree).unwrap(), "1(23)");
    let nested = "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(30) }}";
    assert!(render(nested, Value::Null).unwrap().ends_with("3210"));
}

#[test]
fn a_failing_template_says_where_and_why() {
    for (source, expected) in [
        ("a\n{% if %}", "the chat template cannot be used at line 2: "),
        ("{{ 'x' | nofilter }}", "the chat template failed at line 1: filter nofilter is unknown"),
        ("{% include 'secrets' %}", "the chat template cannot be used: it loads another template"),
        ("\n{{ raise_exception('No\nsystem role') }}", "the chat template refuses this conversation: No system role"),
        ("\n\n{{ 'a' + missing }}", "the chat template failed at line 3: 'missing' is undefined, and + needs a value"),
        ("{{ 'a' + 1 }}", "the chat template failed at line 1: unsupported operand types for +: 'str' and 'int'"),
        ("{{ missing.x.y }}", "the chat template failed at line 1: 'missing' is undefined, and has no attribute 'x'"),
        ("{% set x.y = 1 %}", "the chat template failed at line 1: cannot assign attribute"),
        (
            "{{ raise_exception('\\x1b[2J' * 9999) }}",
            "the chat template refuses this conversation: \u{fffd}[2J\u{fffd}[",
        ),
        ("{{ [].append(1) }}", "the chat template failed at line 1: "),
        ("{{ 170141183460469231731687303715884105727 * 2 }}", "the chat template failed at line 1: "),
        ("{{ strftime_now('%Q%!') }}", "the chat template failed at line 1: strftime_now"),
    ] {
        let error = render(source, Value::Null).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{source}: {error}");
        assert!(!error.contains(char::is_control) && error.len() < 2000, "{error}");
    }
}

/// Endless, cyclic and exploding templates: each is stopped soon, with an error, before it uses up memory.
#[test]
fn a_hostile_template_is_stopped() {
    let doubling = "{% set ns = namespace(x=START) %}{% for i in range(99) %}{% set ns.x = NEXT %}{% endfor %}USE";
    let make = |start, next, last| doubling.replace("START", start).replace("NEXT", next).replace("USE", last);
    let hostile = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_string(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}".into(),
        format!("{{% macro f() %}}{{{{ f(){} }}}}{{% endmacro %}}{{{{ f() }}}}", " + 1".repeat(2000)),
        format!("{{% macro f() %}}{{{{ ''{}|map('upper')|select }}}}{{{{ f() }}}}{{% endmacro %}}{{{{ f() }}}}", "|trim".repeat(1500)),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        "{% block a %}{{ self.a() }}{% endblock %}".into(),
        make("'x'", "ns.x ~ ns.x", ""),
        make("'x'", "ns.x + ns.x", ""),
        make("'x'", "ns.x * 1000", ""),
        make("'x'", "ns.x | replace('x', 'xx')", ""),
        make("'x'", "ns.x.replace('x', 'xx')", ""),
        make("'xx'", "ns.x.join([ns.x] * 9)", ""),
        make("'xx'", "([ns.x] * 9) | join(ns.x)", ""),
        make("'xx'", "'%s%s' | format(ns.x, ns.x)", ""),
        make("'xx'", "'{0}{0}'.format(ns.x)", ""),
        "{{ ('\n' * 99999) | indent(1000, true, true) }}".into(),
        make("[1]", "ns.x + ns.x", ""),
        make("[1]", "[ns.x, ns.x]", "{{ ns.x }}"),
        make("[1]", "(ns.x, ns.x)", "{{ ns.x ~ 1 == 1 }}"),
        make("[1]", "{'a': ns.x, 'b': ns.x}", "{{ ns.x | tojson }}"),
        make("[1]", "dict(a=ns.x, b=ns.x)", "{{ ns.x }}"),
        make("[1]", "ns.x | zip(ns.x) | list", "{{ ns.x }}"),
        make("1", "{'ns': ns}", "{{ ns.x }}"),
        make("1", "namespace(x=ns)", "{{ ns.x }}"),
        "{% macro f() %}{{ 'x' * 9999999 }}{% endmacro %}{% for i in range(999) %}{% set x = f() %}{% endfor %}".into(),
        format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "x".repeat(9999)),
        "{{ 'x' * 99999999 ~ 'x' * 99999999 }}".into(),
        "{{ [[0] * 999999] * 999999 }}".into(),
        "{{ '%099999999d' | format(1) }}".into(),
        "{{ '{:>99999999}'.format(1) }}".into(),
        "{{ 'x'.center(99999999999) }}".into(),
        "{{ 'x' | indent(99999999999) }}".into(),
        "{{ [1] | tojson(indent=99999999999) }}".into(),
        "{% set ns = namespace(x=[]) %}{% for i in range(130) %}{% set ns.x = [ns.x, 1, 1, 1] %}{% endfor %}".to_string()
            + "{{ ([ns.x] * 999) | tojson(indent=64) }}",
        "{% set x = [[0] * 9999] * 99 %}{% for i in range(99999) %}{% for j in range(99) %}{% set y = x | sort | list %}{% endfor %}{% endfor %}".into(),
        "{{ [1]|slice(1000000000)|list }}".into(),
        "{{ [1]|batch(1000000000, 'x')|list }}".into(),
        "{% set s = 'a' * 16000000 %}{% for i in range(100000) %}{% if s is lower %}{% endif %}{% endfor %}".into(),
        "{{ '%*d' % (999999999, 1) }}".into(),
        "{{ '%.999999999f' % 1 }}".into(),
        "{{ '{:{w}}'.format(1, w=999999999) }}".into(),
        "{{ 'x'.ljust(999999999) }}{{ 'x'.zfill(999999999) }}".into(),
        "{{ ('\\t' * 999999).expandtabs(1000) }}".into(),
        "{{ ('a' * 9999999)|replace('', 'b')|urlencode }}".into(),
        "{{ ('<' * 9999999)|e }}".into(),
        "{{ range(99999)|list|tojson(indent=64) * 9 }}".into(),
        "{% set a = 'a' * 9999999 %}{% for i in range(99999) %}{% if a == a ~ '' %}{% endif %}{% endfor %}".into(),
        "{% set a = 'a' * 9999999 %}{% for i in range(99999) %}{{ a.find('b') }}{% endfor %}".into(),
        "{{ ('a' * 9999999).find('a' * 5000000 ~ 'b') }}{{ ('a' * 9999999).rfind('b' ~ 'a' * 5000000) }}".into(),
        "{% set x = range(99999)|list %}{% for i in x %}{% if x == x[:] %}{% endif %}{{ x|sort|unique|list|length }}{% endfor %}".into(),
        "{% set x = range(99999)|list %}{% for i in x %}{% if -1 in x %}{% endif %}{% endfor %}".into(),
        "{% set x = range(99999)|list %}{% for i in x %}{{ (x|groupby('b'))|length }}{% endfor %}".into(),
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = ns.x + ['a' * 99999] %}{% endfor %}".into(),
        "{% for i in range(99999) %}{{ dict([(i, 1)], a='x' * 9999999) }}{% endfor %}".into(),
        "{% for i in range(99999) %}{{ 'é'.upper() * 999999 }}{{ ('a ' * 999999)|title|wordcount }}{% endfor %}".into(),
        "{% set x = 'a' * 16000000 %}{% for i in range(9999) %}{{ [x, x ~ '', x|safe]|length }}{% endfor %}".into(),
        "{{ ('a,' * 8000000).split(',') }}".into(),
        "{{ ('a' * 16000000)|list }}".into(),
        "{% macro f(x) %}{% for y in x %}{{ f(x) }}{% endfor %}{% endmacro %}{{ f(range(9)) }}".into(),
        "{% set x = cycler(*range(99999)) %}{% for i in range(99999) %}{% for j in range(9999) %}{{ x.next() }}{% endfor %}{% endfor %}".into(),
        "(".repeat(5000) + "{{" + &"(".repeat(5000),
        "{{ ".to_string() + &"[".repeat(100_000),
        "{{ ".to_string() + &"-".repeat(100_000) + "1 }}",
        "{{ 1".to_string() + &" + 1".repeat(100_000) + " }}",
        "{{ x".to_string() + &".x".repeat(100_000) + " }}",
        "{{ x".to_string() + &"|string".repeat(100_000) + " }}",
        "{% if x %}".repeat(50_000),
        "{% if x %}{% elif x %}".to_string() + &"{% elif x %}".repeat(50_000) + "{% endif %}",
    ];
    let cyclic = render(&hostile[1], Value::Null).unwrap_err();
    assert_eq!(cyclic.to_string(), "the chat template was stopped: it calls itself without end");
    for source in hostile {
        let started = Instant::now();
        let shown: String = source.chars().take(120).collect();
        let result = render(&source, Value::Null);
        let why = result.as_ref().map_or_else(ToString::to_string, |text| format!("{} bytes", text.len()));
        println!("{:>6} ms  {shown}: {why}", started.elapsed().as_millis());
        assert!(result.is_err(), "{shown}");
        assert!(started.elapsed().as_secs() < 30, "{shown}");
    }
}

/// A rendering ends soon after it is cancelled, in loops and in built-ins.
#[test]
fn a_rendering_can_be_cancelled() {
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set s = 'a' * 16000000 %}{% for i in range(100000) %}{% if s is lower %}{% endif %}{% endfor %}",
    ] {
        let template = ChatTemplate::new(source, "", "").unwrap();
        let mut asked = 0;
        let mut gone = || {
            asked += 1;
            asked > 1
        };
        let error = template.render_pieces(&RenderRequest::default(), None, &mut gone).unwrap_err();
        assert_eq!(error, TemplateError::Limit("it was cancelled".into()));
    }
}

/// Input stays distinguishable from the template's own text, whatever the template does with it.
#[test]
fn every_character_keeps_its_source() {
    let given = |source: &str| {
        let messages = vec![serde_json::json!({"role": "user", "content": " hi<|im_end|>\nX <b> "})];
        let extra = serde_json::json!({"documents": ["doc<|x|>"], "n": 5}).as_object().cloned().unwrap();
        let request = RenderRequest { messages, extra, ..Default::default() };
        let rendered = ChatTemplate::new(source, "<s>", "</s>").unwrap().render_pieces(&request, None, &mut || false);
        let pieces = rendered.unwrap().pieces;
        assert!(pieces.windows(2).all(|two| two[0].given != two[1].given), "{pieces:?}");
        pieces.iter().filter(|piece| piece.given).map(|piece| piece.text.clone()).collect::<Vec<_>>().join("¦")
    };
    let c = "messages[0].content";
    for (source, expected) in [
        (format!("<|im_start|>{{{{ messages[0].role }}}}\n{{{{ {c}|trim }}}}<|im_end|>"), "hi<|im_end|>\nX <b>"),
        (format!("{{{{ bos_token ~ {c}[1:3] ~ eos_token }}}}"), "hi"),
        (format!("{{{{ {c}.split('<|im_end|>')[1].strip().upper() }}}}"), "X <B>"),
        (format!("{{{{ {c}|replace('hi', '<|im_start|>') }}}}"), " ¦<|im_end|>\nX <b> "),
        (format!("{{{{ {c}|tojson }}}}"), " hi<|im_end|>\\nX <b> "),
        (format!("{{{{ ('<b>' in {c}) ~ {c}|e }}}}"), " hi&lt;|im_end|&gt;\nX &lt;b&gt; "),
        (format!("{{{{ 'a %s b' % {c}.strip() }}}}{{{{ '{{}}'.format({c}[1]) }}}}"), "hi<|im_end|>\nX <b>¦h"),
        (format!("{{% set t %}}[{{{{ {c} }}}}]{{% endset %}}{{{{ t[2:5] }}}}"), "hi<"),
        (
            format!("{{% macro m(x) %}}<{{{{ x|join('|') }}}}>{{% endmacro %}}{{{{ m({c}.split()) }}}}"),
            "hi<|im_end|>¦X¦<b>",
        ),
        ("{{ documents[0]|indent(2, true) }}{{ documents }}".into(), "doc<|x|>¦doc<|x|>"),
        ("{{ messages }}".into(), " hi<|im_end|>\\nX <b> "),
        ("{{ n ~ messages[0].role }}".into(), ""),
    ] {
        assert_eq!(given(&source), expected, "{source}");
    }
}

/// Templates that loop over `tools` unconditionally work without tools.
#[test]
fn a_template_that_assumes_tools_works_without() {
    assert_eq!(render("{% for tool in tools %}x{% endfor %}{{ tools }}.", Value::Null).unwrap(), ".");
    assert_eq!(render("{{ tools }} {{ tools is none }}", Value::Null).unwrap(), "None True");
}

#[test]
fn a_long_conversation_is_well_within_the_limits() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/chat-templates");
    for name in ["Qwen-Qwen3-0.6B.jinja", "openai-gpt-oss-120b.jinja", "mistralai-Mistral-Nemo-Instruct-2407.jinja"] {
        let source = std::fs::read_to_string(dir.join(name)).unwrap();
        let message = |i: usize| {
            let role = if i.is_multiple_of(2) { "user" } else { "assistant" };
            serde_json::json!({"role": role, "content": "word ".repeat(300)})
        };
        let request = RenderRequest {
            messages: (0..1999).map(message).collect(),
            add_generation_prompt: true,
            ..Default::default()
        };
        let started = Instant::now();
        let text = ChatTemplate::new(&source, "<s>", "</s>").unwrap().render(&request).unwrap();
        println!("{name}: {} bytes in {} ms", text.len(), started.elapsed().as_millis());
        assert!(text.len() > 1999 * 1499);
    }
}

/// A template that numbers its calls as Kimi K2's do: the ids wait in a list until the results come.
const NUMBERED: &str = "{% set queue = namespace(ids=[]) %}{% set n = namespace(value=0) %}{% for m in messages %}\
    {% if m.tool_calls %}{% for call in m.tool_calls %}{% set id = 'functions.' ~ call.function.name ~ ':' ~ n.value %}\
    {% set n.value = n.value + 1 %}{% set _ = queue.ids.append(id) %}<|call|>{{ id }}{{ call.function.arguments | tojson }}\
    {% endfor %}{% elif m.role == 'tool' %}<|result|>{{ queue.ids.pop(0) }}={{ m.content }}{% else %}{{ m.content }}{% endif %}\
    {% endfor %}";

#[test]
fn lists_grow_for_models_and_not_for_those_who_compare_with_hugging_face() {
    let call =
        |name: &str| serde_json::json!({"type": "function", "function": {"name": name, "arguments": {"at": "<|x|>"}}});
    let messages = serde_json::json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call("weather"), call("clock")]},
        {"role": "tool", "content": "sunny"},
        {"role": "tool", "content": "noon"},
    ]);
    let request = RenderRequest { messages: messages.as_array().unwrap().clone(), ..Default::default() };
    let template = ChatTemplate::new(NUMBERED, "<s>", "</s>").unwrap();
    assert!(matches!(template.render(&request), Err(TemplateError::Failed { .. })), "as in the sandbox");
    let template = template.with_growing_lists();
    let rendered = template.render_pieces(&request, None, &mut || false).unwrap();
    assert_eq!(
        rendered.text(),
        "Hi<|call|>functions.weather:0{\"at\": \"<|x|>\"}<|call|>functions.clock:1{\"at\": \"<|x|>\"}\
         <|result|>functions.weather:0=sunny<|result|>functions.clock:1=noon"
    );
    // What a caller wrote is still the caller's when it comes out of a list.
    for Piece { text, given } in &rendered.pieces {
        let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        assert!(*given || !has(&["<|x|>", "weather", "sunny"]), "{text:?} is no part of the template");
        assert!(!*given || !has(&["<|call|>", "<|result|>", "functions."]), "{text:?} is the template's");
    }
    let grow = |source: &str| {
        ChatTemplate::new(source, "", "").unwrap().with_growing_lists().render(&RenderRequest::default())
    };
    let with = |rest: &str| grow(&format!("{{% set ns = namespace(l=[1, 2, 3], n=7) %}}{rest}"));
    assert_eq!(with("{{ ns.l.pop() }}{{ ns.l.pop(0) }}{{ ns.l.append('x') }}{{ ns.l }}").unwrap(), "31None[2, 'x']");
    for (rest, why) in [
        ("{{ ns.l.pop(3) }}", "index out of range"),
        ("{{ ns.l.pop('a') }}", "needs an integer"),
        ("{{ ns.l.append() }}", "needs an item"),
        ("{{ ns.n.append(1) }}", "no list 'n'"),
        ("{{ ns.l.append(ns) }}", "cannot hold a namespace"),
        ("{{ [].append(1) }}", "append"),
        ("{% set l = [] %}{{ l.append(1) }}", "append"),
        ("{% for i in range(999) %}{{ ns.l.append(ns.l) }}{% endfor %}", "nests lists deeper"),
        ("{% for i in range(9999) %}{% for j in range(9999) %}{{ ns.l.append(i) }}{% endfor %}{% endfor %}", "stopped"),
    ] {
        let error = with(rest).unwrap_err().to_string();
        assert!(error.contains(why), "{rest}: {error}");
    }
}
