//! The project's integration tests: one binary, a module a behaviour. They run the built executable.

mod bad_bundle;
mod cli_chat;
mod cli_run;
mod cli_template;
mod pack;
mod reference;
mod support;
