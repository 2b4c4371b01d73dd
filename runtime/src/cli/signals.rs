//! Termination signals: Ctrl-C, SIGTERM, a closed terminal or console window.
//!
//! The command decides how to react; Ctrl-C in a conversation is handled in `answer.rs`. A signal that the parent process
//! set to be ignored stays ignored: `nohup` does that with SIGHUP, and a shell without job control with SIGINT for
//! background jobs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
#[cfg(not(unix))]
use std::sync::atomic::Ordering;

/// Calls `then` on its own thread for every termination signal; install at most once per process.
#[cfg(unix)]
pub(super) fn on_end(mut then: impl FnMut() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let heard = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal));
    let mut signals = signal_hook::iterator::Signals::new(heard)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            then();
        }
    })?;
    Ok(())
}

/// Sets `flag` on a termination signal, without a thread; install at most once per process.
#[cfg(unix)]
pub(super) fn set_on_end(flag: &Arc<AtomicBool>) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal)) {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Sets `flag` on a termination signal; install at most once per process.
#[cfg(not(unix))]
pub(super) fn set_on_end(flag: &Arc<AtomicBool>) -> io::Result<()> {
    let flag = Arc::clone(flag);
    on_end(move || flag.store(true, Ordering::Relaxed))
}

/// Whether the parent process set this signal to be ignored; call before installing a handler.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(super) fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only reads; it writes no more than the struct, of which zeros are a value.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Calls `then` on its own thread for every termination signal; install at most once per process.
#[cfg(not(unix))]
pub(super) fn on_end(then: impl FnMut() + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(then).map_err(io::Error::other)
}
