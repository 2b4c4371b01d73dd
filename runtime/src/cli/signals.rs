//! The wish that the program end: Ctrl-C, SIGTERM, a terminal or a console window that was closed.
//!
//! What is done then is up to the command. Ctrl-C within a conversation means something else (`answer.rs`).

use std::io;

/// Calls `then`, on a thread of its own, each time the program is asked to end; once in a program.
#[cfg(unix)]
pub(super) fn on_end(mut then: impl FnMut() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            then();
        }
    })?;
    Ok(())
}

/// Calls `then`, on a thread of its own, each time the program is asked to end; once in a program.
#[cfg(not(unix))]
pub(super) fn on_end(then: impl FnMut() + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(then).map_err(io::Error::other)
}
