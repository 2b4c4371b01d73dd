//! The project's integration tests: one binary, a module per behaviour. They run the built executable.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests print what they skip and measure")]

mod architectures;
mod bad_bundle;
mod bad_gguf;
mod bench;
mod block_types;
mod cache_types;
mod check;
mod cli_chat;
mod cli_run;
mod cli_template;
mod constrained;
mod context;
mod embeddings;
mod encoders;
mod forms;
mod gpu;
mod hostile;
mod http;
mod http_access;
mod inspect;
mod jinja;
mod limits;
mod lora;
mod lora_reference;
mod memory;
mod minilm;
mod ollama;
mod ollama_client;
mod openai_client;
mod outputs;
mod pack;
mod page;
mod places;
mod platforms;
mod published_reports;
mod quantize;
mod reference;
mod schema_suite;
mod served;
mod signals;
mod streams;
mod support;
mod tokenize;
mod universal;
