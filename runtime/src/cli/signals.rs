//! Termination signals: Ctrl-C, SIGTERM, a closed terminal or console window.
//!
//! The command decides how to react; Ctrl-C in a conversation is handled in `answer.rs`. A signal that the parent process
//! set to be ignored stays ignored: `nohup` does that with SIGHUP, and a shell without job control with SIGINT for
//! background jobs.

use std::io;
#[cfg(unix)]
use std::process::Command;
use std::process::{Child, ExitStatus};
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

/// Termination signals, held back for a program that this one starts. Ctrl-C in a terminal reaches both, and is the other's.
#[cfg(unix)]
pub(super) struct Held(signal_hook::iterator::Signals);

/// Holds termination signals back; install at most once per process.
#[cfg(unix)]
pub(super) fn hold() -> io::Result<Held> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let heard = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal));
    signal_hook::iterator::Signals::new(heard).map(Held)
}

#[cfg(unix)]
impl Held {
    /// Waits for the program, and passes on what would end this one.
    pub(super) fn pass_to(mut self, child: &mut Child) -> io::Result<ExitStatus> {
        use signal_hook::consts::{SIGHUP, SIGTERM};
        let handle = self.0.handle();
        let passing = std::thread::Builder::new().name("signals".to_owned()).spawn({
            let id = child.id().to_string();
            move || {
                for signal in self.0.forever() {
                    let name = match signal {
                        SIGTERM => "TERM",
                        SIGHUP => "HUP",
                        _ => continue,
                    };
                    // It may have ended by now. The shell's own command, since sending a signal is not safe code.
                    let _ = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status();
                }
            }
        })?;
        let status = child.wait();
        handle.close();
        let _ = passing.join();
        status
    }
}

/// Termination signals, held back for a program that this one starts, which gets them from the console.
#[cfg(not(unix))]
pub(super) struct Held;

/// Holds termination signals back; install at most once per process.
#[cfg(not(unix))]
pub(super) fn hold() -> io::Result<Held> {
    on_end(|| {}).map(|()| Held)
}

#[cfg(not(unix))]
impl Held {
    /// Waits for the program.
    pub(super) fn pass_to(self, child: &mut Child) -> io::Result<ExitStatus> {
        child.wait()
    }
}
