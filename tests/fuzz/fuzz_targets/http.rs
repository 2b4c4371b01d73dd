//! Arbitrary bytes as an HTTP request: head, body, the check against foreign pages, and both API endpoints' parameters.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use satchel::sampling::SamplingParams;
use satchel::server::http::{BodyLength, ChunkedDecoder, Refusal, parse_head};
use satchel::server::openai::{ApiError, Baseline, ChatRequest, Common, CompletionRequest, MAX_CHOICES, Prompt};
use satchel::server::{Guard, Limits};

const VOCABULARY: usize = 1000;

fuzz_target!(init: seeds::write(make_seeds()), |bytes: &[u8]| {
    let limits = Limits { max_body_bytes: 4096, ..Limits::default() };
    // Without a head, the same bytes are tried as a body.
    let (head, length) = match parse_head(bytes, &limits) {
        Ok(Some(whole)) => whole,
        Ok(None) => return assert!(bytes.len() < limits.max_head_bytes, "an unfinished head may not grow for ever"),
        Err(refusal) => {
            refused(&refusal);
            return parameters(bytes);
        }
    };
    assert!(length <= bytes.len() && (head.path.starts_with('/') || head.path == "*"));
    assert!(parse_head(&bytes[..length - 1], &limits).is_ok_and(|early| early.is_none()), "the head ends where it ends");
    let guard = Guard::new("127.0.0.1:8080".parse().ok(), &[], &[]);
    if let Err(refusal) = guard.admit(&head) {
        refused(&refusal);
    }
    let rest = &bytes[length..];
    match head.body {
        BodyLength::Exact(length) => parameters(&rest[..rest.len().min(usize::try_from(length).unwrap_or(usize::MAX))]),
        BodyLength::Chunked => chunked(rest, limits.max_body_bytes),
    }
});

/// A chunked body decodes to the same however it is split into reads.
fn chunked(bytes: &[u8], max_bytes: usize) {
    let decode = |piece: usize| {
        let (mut decoder, mut received, mut body) = (ChunkedDecoder::new(max_bytes), Vec::new(), Vec::new());
        let mut done = Ok(false);
        for part in bytes.chunks(piece.max(1)) {
            received.extend_from_slice(part);
            if !matches!(done, Ok(true)) {
                done = decoder.decode(&mut received, &mut body);
            }
            if done.is_err() {
                break;
            }
        }
        assert!(body.len() <= max_bytes);
        done.map(|done| (done, body, received)).map_err(|refusal| refusal.status)
    };
    let whole = decode(bytes.len());
    assert_eq!(whole, decode(1));
    assert_eq!(whole, decode(7));
    if let Ok((true, body, _)) = whole {
        parameters(&body);
    }
}

fn parameters(body: &[u8]) {
    let sampling = SamplingParams::default();
    let baseline = Baseline { sampling, max_tokens: None, vocabulary: VOCABULARY, tokenizer: None };
    match ChatRequest::parse(body, &baseline) {
        Ok(request) => {
            assert!(!request.messages.is_empty());
            assert!(
                request.messages.iter().all(|message| message["role"].is_string() && message["content"].is_string())
            );
            assert!(request.logprobs.is_none_or(|top| top <= 20));
            hold(&request.common);
        }
        Err(error) => bad_request(&error),
    }
    match CompletionRequest::parse(body, &baseline) {
        Ok(request) => {
            assert!((1..=MAX_CHOICES).contains(&(request.prompts.len() * request.common.n)));
            for prompt in &request.prompts {
                if let Prompt::Tokens(tokens) = prompt {
                    assert!(tokens.iter().all(|&token| (token as usize) < VOCABULARY));
                }
            }
            hold(&request.common);
        }
        Err(error) => bad_request(&error),
    }
}

/// Invariants that the engine relies on.
fn hold(common: &Common) {
    common.sampling.validate().expect("sampling was checked");
    assert!((1..=MAX_CHOICES).contains(&common.n));
    assert!(common.stop.iter().all(|stop| !stop.is_empty()));
    assert!(common.sampling.logit_bias.iter().all(|&(token, _)| (token as usize) < VOCABULARY));
}

fn refused(refusal: &Refusal) {
    assert!((400..600).contains(&refusal.status));
    one_line(&refusal.message);
}

fn bad_request(error: &ApiError) {
    assert_eq!(error.status, 400);
    one_line(&error.message);
    // The name of a parameter is the client's own, and may be empty.
    assert!(error.param.as_ref().is_none_or(|param| !param.contains(|letter: char| letter.is_control())));
}

fn one_line(text: &str) {
    assert!(!text.is_empty() && !text.contains(|letter: char| letter.is_control()), "one line: {text:?}");
}

fn make_seeds() -> Vec<Vec<u8>> {
    let chat = r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]}],
        "temperature":0.5,"top_p":0.9,"top_k":4,"min_p":0.1,"typical_p":1,"repeat_penalty":1.1,"repeat_last_n":-1,"seed":-1,
        "presence_penalty":0,"frequency_penalty":0,"logit_bias":{"5":-100},"stop":["x","y"],"n":2,"max_tokens":9,"logprobs":true,
        "top_logprobs":3,"stream":true,"stream_options":{"include_usage":true},"ignore_eos":false,"user":"u","tools":[]}"#;
    let completion = r#"{"prompt":[[1,2],"x"],"logprobs":2,"echo":false,"best_of":1,"suffix":"","max_tokens":4}"#;
    let post = |lines: &str, body: &str| {
        format!("POST /v1/chat/completions?x HTTP/1.1\r\nHost: localhost:8080\r\n{lines}\r\n\r\n{body}").into_bytes()
    };
    let length = |body: &str| format!("Content-Length: {}", body.len());
    vec![
        post(&length(chat), chat),
        post(&length(completion), completion),
        post("Transfer-Encoding: chunked", "d;x=y\r\n{\"prompt\":\"a\"}\r\n0\r\nT: v\r\n\r\n"),
        b"GET http://127.0.0.1/%41?b HTTP/1.0\r\nConnection: keep-alive\r\nOrigin: http://127.0.0.1\r\nExpect: 100-continue\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nSec-Fetch-Site: cross-site\r\n\r\n".to_vec(),
        chat.as_bytes().to_vec(),
        completion.as_bytes().to_vec(),
    ]
}
