//! Progress of long file work: a bar on a terminal, a line every few seconds elsewhere, nothing with `--quiet`.
//!
//! It also carries cancellation: Ctrl-C and SIGTERM set a flag that the work polls, so that it cleans up after itself
//! instead of dying in the middle of a write.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use satchel_packer::{Error, Observer, shown_bytes};

use super::out::notice;
use super::{Failure, signals};

/// How often a line is printed if stderr is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// Shows one piece of work on stderr.
pub(super) struct Progress {
    verb: &'static str,
    shown: Shown,
    interrupted: Arc<AtomicBool>,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
}

struct Lines {
    begun: Instant,
    last: Instant,
    done_bytes: u64,
    total_bytes: u64,
}

impl Progress {
    /// Starts the display for work called `verb` ("packing"), and handles Ctrl-C and SIGTERM from here on.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub(super) fn new(verb: &'static str, quiet: bool) -> Result<Self, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        signals::set_on_end(&interrupted)?;
        let shown = if quiet {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            Shown::Bar(bar(verb)?)
        } else {
            Shown::Lines(Mutex::new(Lines::new(0)))
        };
        Ok(Self { verb, shown, interrupted })
    }

    /// Ends the display, and turns the work's error into a failure; exit status 130 if it was interrupted.
    pub(super) fn finish<T>(&self, result: Result<T, Error>) -> Result<T, Failure> {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        result.map_err(|error| match error {
            Error::Interrupted => Failure { message: error.to_string(), code: 130 },
            error => Failure::new(error.to_string()),
        })
    }
}

fn bar(verb: &'static str) -> Result<ProgressBar, Failure> {
    let style = ProgressStyle::with_template(
        "{prefix} {bar:28} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left  {msg}",
    )?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    bar.set_prefix(verb);
    Ok(bar)
}

impl Observer for Progress {
    fn begin(&self, total_bytes: u64) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.reset(); // one bar serves several files
                bar.set_length(total_bytes);
            }
            Shown::Lines(lines) => {
                notice!("{}: {}", self.verb, shown_bytes(total_bytes));
                if let Ok(mut lines) = lines.lock() {
                    *lines = Lines::new(total_bytes);
                }
            }
        }
    }

    fn at(&self, name: &str) {
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(name.to_owned());
        }
    }

    fn advance(&self, bytes: u64) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.inc(bytes),
            Shown::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    lines.done_bytes += bytes;
                    if lines.last.elapsed() >= LINE_EVERY {
                        lines.last = Instant::now();
                        notice!("{}: {}", self.verb, lines.text());
                    }
                }
            }
        }
    }

    fn flushing(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message("writing to the disk");
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Lines {
    fn new(total_bytes: u64) -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, done_bytes: 0, total_bytes }
    }

    fn text(&self) -> String {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-3);
        let rate = self.done_bytes as f64 / seconds;
        let left = self.total_bytes.saturating_sub(self.done_bytes) as f64 / rate.max(1.0);
        let (done, total) = (shown_bytes(self.done_bytes), shown_bytes(self.total_bytes));
        format!("{done} of {total}, {}/s, {left:.0} s left", shown_bytes(rate as u64))
    }
}
