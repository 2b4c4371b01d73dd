//! Forms of requests and answers of both APIs.

use serde_json::{Value, json};

use super::question::{Kind, Question, likeliest, mean, probabilities};
use super::{error_response, openai, systemone};
use crate::server::openai::ApiError;

fn question(kind: Kind, count: usize) -> Question {
    let answers = (0..count).map(|index| (format!("n{index}"), String::new())).collect();
    Question { kind, instructions: "Which?".into(), answers }
}

#[test]
fn no_label_begins_another() {
    for (kind, count, first, last) in [
        (Kind::Truth, 2, "Yes", "No"),
        (Kind::Choice, 3, "A", "C"),
        (Kind::Choice, 26, "A", "Z"),
        (Kind::Choice, 27, "01", "27"),
        (Kind::Choice, 255, "001", "255"),
        (Kind::Score, 10, "0", "9"),
        (Kind::Score, 11, "00", "10"),
        (Kind::Score, 1, "0", "0"),
    ] {
        let labels = question(kind, count).labels();
        assert_eq!((labels.len(), labels[0].as_str(), labels[count - 1].as_str()), (count, first, last));
        for (at, label) in labels.iter().enumerate() {
            assert!(labels.iter().enumerate().all(|(other, text)| other == at || !text.starts_with(label)), "{label}");
        }
    }
}

#[test]
fn a_prompt_names_each_answer_with_its_meaning() {
    let mut choice = question(Kind::Choice, 2);
    choice.answers[1].1 = "the second".into();
    let prompt = choice.prompt();
    assert!(prompt.starts_with("Question: Which?\nA: n0\nB: n1 - the second\nAnswer with"), "{prompt}");
    let truth = Question { kind: Kind::Truth, instructions: "So?".into(), answers: vec![Default::default(); 2] };
    assert_eq!(truth.prompt().lines().count(), 2);
}

#[test]
fn probabilities_sum_to_one_however_unlikely_the_labels_are() {
    let likely = probabilities(&[-1000.0, -1000.0 + 3f64.ln(), f64::NEG_INFINITY]);
    assert!((likely[0] - 0.25).abs() < 1e-12 && (likely[1] - 0.75).abs() < 1e-12 && likely[2] == 0.0, "{likely:?}");
    assert_eq!((likeliest(&likely), mean(&likely)), (1, likely[1]));
    assert_eq!(probabilities(&[f64::NEG_INFINITY; 2]), [0.5, 0.5]);
    assert_eq!(likeliest(&[0.5, 0.5]), 0);
}

fn predicate() -> Value {
    json!({"type": "predicate", "instructions": "It is spam.", "name": "spam"})
}

#[test]
fn openai_takes_texts_items_and_every_kind_of_question() {
    let parse = |body: Value| openai::Request::parse(body.to_string().as_bytes());
    let instructions = json!([{"type": "input_text", "text": "By "}, {"type": "input_json", "data": {"a": 1}}]);
    let questions = json!([
        predicate(),
        {"type": "choice", "instructions": instructions, "choices": [{"value": "true"}, {"value": true, "description": "d"}]},
        {"type": "score", "instructions": "How?", "levels": [{"label": "low"}, {"label": "high", "description": "very"}]},
    ]);
    let items = json!([
        {"role": "developer", "content": "Be fair."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hello "}, {"type": "input_json", "data": {"b": [1]}}]},
    ]);
    let request = parse(json!({"model": "m", "input": items, "questions": questions})).expect("a request");
    assert_eq!(request.messages[1], json!({"role": "user", "content": "Hello {\"b\":[1]}"}));
    let asked: Vec<&Question> = request.questions.iter().map(|asked| &asked.question).collect();
    assert_eq!(asked[1].instructions, "By {\"a\":1}");
    assert_eq!(asked[1].answers, [("true".into(), String::new()), ("true".into(), "d".into())]);
    assert_eq!((asked[0].kind, asked[2].kind, asked[2].answers.len()), (Kind::Truth, Kind::Score, 2));
    for (question, at) in [
        (json!(1), "questions[0]"),
        (json!({"type": "box"}), "questions[0].type"),
        (json!({"type": "predicate"}), "questions[0].instructions"),
        (json!({"type": "predicate", "instructions": "x", "levels": []}), "questions[0].levels"),
        (json!({"type": "predicate", "instructions": [{"type": "input_image"}]}), "questions[0].instructions[0]"),
        (json!({"type": "choice", "instructions": "x", "choices": [{"value": "a"}]}), "questions[0].choices"),
        (
            json!({"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": "a"}]}),
            "questions[0].choices[1]",
        ),
        (
            json!({"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": 1}]}),
            "questions[0].choices[1].value",
        ),
        (json!({"type": "score", "instructions": "x", "levels": [{}]}), "questions[0].levels[0].label"),
        (json!({"type": "score", "instructions": "x", "levels": []}), "questions[0].levels"),
    ] {
        let error = parse(json!({"input": "x", "questions": [question]})).expect_err("an error");
        assert_eq!((error.status, error.param.as_deref()), (400, Some(at)), "{question}");
    }
    for (body, at) in [
        (json!({"questions": [predicate()]}), "input"),
        (json!({"input": "x", "questions": []}), "questions"),
        (json!({"input": "x", "questions": vec![predicate(); 401]}), "questions"),
        (json!({"input": "x", "questions": [predicate()], "made_up": 1}), "made_up"),
    ] {
        assert_eq!(parse(body).expect_err("an error").param.as_deref(), Some(at));
    }
}

#[test]
fn systemone_takes_texts_and_json_and_every_kind_of_question() {
    let parse = |body: Value| systemone::Request::parse(body.to_string().as_bytes());
    let request = parse(json!({"model": "jev-latest", "state": {"subject": "Twice"}, "questions": {
        "spam": {"type": "noul", "instructions": "Is it spam?", "criteria": {"true": "advertising"}},
        "tone": {"type": "choice", "criteria": {"calm": null, "angry": {"is": "loud"}}},
        "urgency": {"type": "score", "instructions": {"task": "rate"}, "criteria": ["later", ["now"]]},
    }}))
    .expect("a request");
    assert_eq!(request.state, "{\"subject\":\"Twice\"}");
    let asked: Vec<&Question> = request.questions.iter().map(|asked| &asked.question).collect();
    assert_eq!(asked[0].answers[0].0, "advertising");
    assert_eq!(asked[1].answers, [("calm".into(), String::new()), ("angry".into(), "{\"is\":\"loud\"}".into())]);
    assert_eq!((asked[2].instructions.as_str(), asked[2].answers[1].0.as_str()), ("{\"task\":\"rate\"}", "[\"now\"]"));
    for (question, at) in [
        (json!({"type": "box"}), "questions.q.type"),
        (json!({"type": "noul"}), "questions.q"),
        (json!({"type": "noul", "instructions": "x", "criteria": []}), "questions.q.criteria"),
        (json!({"type": "choice"}), "questions.q.criteria"),
        (json!({"type": "score", "criteria": []}), "questions.q.criteria"),
        (json!({"type": "score", "criteria": ["a"], "made_up": 1}), "questions.q.made_up"),
    ] {
        let error = parse(json!({"state": "x", "questions": {"q": question}})).expect_err("an error");
        assert_eq!(error.param.as_deref(), Some(at), "{question}");
    }
    let wrong = |body: Value| parse(body).expect_err("an error").param;
    assert_eq!(wrong(json!({"questions": {}})).as_deref(), Some("state"));
    assert_eq!(wrong(json!({"state": "x", "questions": {}})).as_deref(), Some("questions"));
    let assets = json!({"state": "x", "questions": {"q": {"type": "noul", "instructions": "x"}}, "assets": {"a": {}}});
    assert_eq!(wrong(assets).as_deref(), Some("assets"));
}

#[test]
fn an_error_of_systemone_has_a_location() {
    let body = |error: &ApiError| {
        let response = error_response(error);
        (response.status, serde_json::from_slice::<Value>(&response.body).expect("JSON"))
    };
    let (status, invalid) = body(&ApiError::parameter("questions.q.criteria[2]", "no"));
    let detail = json!([{"loc": ["body", "questions", "q", "criteria", 2], "msg": "no", "type": "value_error"}]);
    assert_eq!((status, &invalid["detail"]), (422, &detail));
    assert_eq!(body(&ApiError::new(503, "busy")), (503, json!({"detail": "busy"})));
}
