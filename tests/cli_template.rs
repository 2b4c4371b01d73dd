//! `satchel template`: renderings byte for byte, and a one-line message for each error.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{SATCHEL, Scratch, data, output, satchel, smollm2, stories};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Renders with a template file, no model and a given object.
fn render(template: &str, object: &str) -> crate::support::Printed {
    let scratch = Scratch::new();
    let file = scratch.path("template.jinja");
    std::fs::write(&file, template).expect("scratch is writable");
    let mut command = Command::new(SATCHEL);
    command.args(["template", "--template", text(&file), "--messages", "-", "--now", "2026-03-14 15:09:26"]);
    output(&mut command, object.as_bytes())
}

#[test]
fn it_prints_what_python_renders_and_nothing_else() {
    let cases: Value = serde_json::from_slice(&std::fs::read(data("chat-templates/cases.json")).unwrap()).unwrap();
    // Every fortieth case: the renderer's unit tests run all of them.
    for case in cases["cases"].as_array().unwrap().iter().step_by(40) {
        let template = std::fs::read_to_string(data("chat-templates").join(case[0].as_str().unwrap())).unwrap();
        let mut object = cases["conversations"][case[1].as_str().unwrap()].clone();
        object["add_generation_prompt"] = case[2].clone();
        object["bos_token"] = json!("<s>");
        object["eos_token"] = json!("</s>");
        let printed = render(&template, &object.to_string());
        match case[3]["expected"].as_str() {
            Some(expected) => assert_eq!(printed.ok(), expected, "{case}"),
            None => assert!(printed.failed(1).starts_with("satchel: ")),
        }
    }
}

#[test]
fn keys_of_the_object_are_variables() {
    let object =
        r#"{"messages": [{"role": "user", "content": "ü"}], "tools": null, "enable_thinking": false, "n": 1.0}"#;
    let template = "{{ messages[0].content }}{{ enable_thinking }}{{ n }}{{ tools }}{{ strftime_now('%d %b %Y') }}\n\n";
    assert_eq!(render(template, object).ok(), "üFalse1.0None14 Mar 2026\n");
}

#[test]
fn the_models_own_template_is_the_default() {
    let Some(model) = smollm2() else { return };
    let scratch = Scratch::new();
    let file = scratch.path("messages.json");
    std::fs::write(&file, r#"{"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": true}"#)
        .unwrap();
    let printed = satchel(&["template", "-m", text(&model), "--messages", text(&file)]);
    let system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    let expected =
        format!("<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(printed.ok(), expected);
}

#[test]
fn errors_are_one_line() {
    let good = r#"{"messages": []}"#;
    for (template, object, line) in [
        ("", "{\"messages\":\n [}", "stdin: this is not JSON: expected value at line 2 column 3"),
        ("", r#"{"messages": [], "messages": []}"#, "stdin: this is not JSON: the key `messages` comes twice"),
        ("", "[]", "stdin: it must be a JSON object with \"messages\""),
        ("", "{}", "stdin: \"messages\" is missing"),
        ("", "{\"messages\": [1]}", "stdin: \"messages\"[0] must be an object with \"role\" and \"content\""),
        ("", "{\"messages\": [], \"tools\": 1}", "stdin: \"tools\" must be an array"),
        ("{{ raise_exception('No.') }}", good, "the chat template refuses this conversation: No."),
        ("\n{{ messages[0].content + 'x' }}", good, "the chat template failed at line 2: "),
        (
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            good,
            "the chat template was stopped: it calls itself without end",
        ),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            good,
            "the chat template was stopped: it runs without end",
        ),
    ] {
        let printed = render(template, object).failed(1);
        assert!(printed.starts_with(&format!("satchel: {line}")), "{printed}");
    }
    let syntax = render("{% if %}", good).failed(1);
    assert!(syntax.contains("template.jinja: the chat template cannot be used at line 1: "), "{syntax}");
    let none = satchel(&["template", "-m", text(&stories()), "--messages", "/nonexistent"]).failed(1);
    assert!(none.contains("cannot read /nonexistent"), "{none}");
    let mut without = Command::new(SATCHEL);
    without.args(["template", "-m", text(&stories()), "--messages", "-"]);
    let line = output(&mut without, good.as_bytes()).failed(1);
    assert!(line.ends_with("the model has no chat template; name one with --template FILE.jinja"), "{line}");
}
