//! Chat templates that reach for the system they run on, or that never end: they come with a model file, and run at each
//! request.

use std::path::PathBuf;

use serde_json::json;

use super::{Model, bounded, string, text};
use crate::served::Served;
use crate::support::{Scratch, stories};

/// A model with this chat template.
fn with_template(scratch: &Scratch, template: &str) -> PathBuf {
    Model::read(&stories()).set("tokenizer.chat_template", string(template)).write(scratch)
}

/// The line of a conversation through the template in a model file.
#[track_caller]
fn line_of(scratch: &Scratch, template: &str) -> String {
    let model = with_template(scratch, template);
    let line = bounded(&["run", "-m", text(&model), "-n", "2", "-t", "1", "Hi"]).failed(1);
    assert!(line.starts_with("satchel: ") && line.len() < 600, "{line}");
    line
}

/// What the proofs of both reports write, and their relatives: from an object to its class, to all classes, to a shell. Nothing
/// here is an object of Python, so the first step leads nowhere.
#[test]
fn cve_2024_34359_cve_2026_5760_templates_that_run_programs() {
    let scratch = Scratch::new();
    let mark = scratch.path("mark");
    let run = format!("os.popen('touch {}').read()", text(&mark));
    for template in [
        format!(
            "{{{{ self.__init__.__globals__.__builtins__.__import__('os').popen('touch {}').read() }}}}",
            text(&mark)
        ),
        "{% for c in ().__class__.__base__.__subclasses__() %}{% if 'warning' in c.__name__ %}\
         {{ c()._module.__builtins__['__import__']('os') }}{% endif %}{% endfor %}"
            .into(),
        format!("{{{{ cycler.__init__.__globals__.{run} }}}}"),
        format!("{{{{ joiner.__init__.__globals__.{run} }}}}"),
        format!("{{{{ namespace.__init__.__globals__.{run} }}}}"),
        format!("{{{{ lipsum.__globals__.{run} }}}}"),
        format!("{{{{ messages.__class__.__mro__[-1].__subclasses__()[133].__init__.__globals__.{run} }}}}"),
        format!("{{{{ (''|attr('__class__')|attr('__mro__'))[1] }}}}{{{{ request.application.__globals__.{run} }}}}"),
        // CVE-2024-56326: a format string's own method, called by a filter.
        "{{ ['{0.__class__.__globals__}'.format]|map('string') }}{{ '{0.__class__}'.format(messages) }}".into(),
        // CVE-2025-27516: the same by way of `attr`.
        "{{ ('{0.__class__.__init__.__globals__}'|attr('format'))(messages) }}".into(),
    ] {
        let line = line_of(&scratch, &template);
        assert!(line.contains("the chat template failed at line 1"), "{template}: {line}");
        assert!(!mark.exists(), "{template}");
    }
    for template in ["{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% extends '/etc/hostname' %}"] {
        let line = line_of(&scratch, template);
        assert!(line.contains("it loads another template"), "{line}");
    }
}

/// llama.cpp's pull requests 19085 and 19087: recursion without an end, nesting without a limit; and what doubles.
#[test]
fn templates_that_explode() {
    let scratch = Scratch::new();
    for (template, words) in [
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(), "calls itself without end"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".into(), "was stopped"),
        (
            "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}".into(),
            "was stopped",
        ),
        ("{{ 'x' * 9999999999 }}".into(), "was stopped"),
        (format!("{{{{ {} }}}}", "[".repeat(100_000)), "cannot be used"),
        (format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)), "cannot be used"),
        ("{% if x %}".repeat(50_000), "cannot be used"),
        (format!("{{{{ x{} }}}}", "|string".repeat(100_000)), "cannot be used"),
    ] {
        let line = line_of(&scratch, &template);
        assert!(line.contains(words), "{}: {line}", template.chars().take(60).collect::<String>());
    }
}

/// A server with such a model refuses the requests that need the template, and goes on.
#[test]
fn a_server_outlives_its_template() {
    let scratch = Scratch::new();
    for template in [
        "{{ self.__init__.__globals__ }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ] {
        let server = Served::start(&with_template(&scratch, template), &[]);
        let chat = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2});
        for _ in 0..2 {
            let answer = server.post("/v1/chat/completions", &chat);
            assert!((400..=500).contains(&answer.status), "{answer:?}");
            let message = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
            assert!(message.contains("the chat template") && !message.contains('\n'), "{message}");
        }
        let raw = server.post("/v1/completions", &json!({"prompt": "Once", "max_tokens": 2}));
        assert_eq!(raw.status, 200, "{raw:?}");
    }
}

/// vLLM took templates from requests, and arguments of its own functions as variables of a template. Here a request may set
/// variables, except those that the request itself and the model give, and no template.
#[test]
fn cve_2025_61620_cve_2025_62426_templates_and_variables_in_requests() {
    let scratch = Scratch::new();
    let template = "{{ bos_token }}{{ messages[0].content }}{{ tokenize }}{{ chat_template }}";
    let server = Served::start(&with_template(&scratch, template), &[]);
    let chat = |name: &str, value: serde_json::Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2});
        body[name] = value;
        server.post("/v1/chat/completions", &body)
    };
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let line = chat("chat_template", json!(endless)).error(400, Some("chat_template"), Some("unknown_parameter"));
    assert!(line.contains("`chat_template`"), "{line}");
    for name in ["messages", "bos_token", "eos_token", "tools"] {
        let line = chat("chat_template_kwargs", json!({ name: [1] })).json()["error"]["message"].to_string();
        assert!(line.contains("must not contain"), "{line}");
    }
    let harmless = json!({"tokenize": true, "chat_template": endless, "conversation": "a ".repeat(100_000)});
    let answer = chat("chat_template_kwargs", harmless);
    assert!(answer.status == 200 || answer.status == 400, "{answer:?}");
    assert_eq!(chat("chat_template_kwargs", json!({})).status, 200);
}
