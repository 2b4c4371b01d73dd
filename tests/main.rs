//! The project's integration tests: one binary, a module a behaviour. They run the built executable.

mod bad_bundle;
mod bad_gguf;
mod bench;
mod block_types;
mod cache_types;
mod cli_chat;
mod cli_run;
mod cli_template;
mod embeddings;
mod forms;
mod http;
mod inspect;
mod jinja;
mod memory;
mod minilm;
mod openai_client;
mod pack;
mod page;
mod places;
mod platforms;
mod quantize;
mod reference;
mod served;
mod support;
mod tokenize;
mod universal;
