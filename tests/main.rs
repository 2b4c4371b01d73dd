//! The project's integration tests: one binary, a module a behaviour. They run the built executable.

mod bad_bundle;
mod pack;
mod reference;
mod support;
