//! Streams an answer to stdout as it is generated, until it ends or Ctrl-C cancels it. Shared by `run` and `chat`.

use std::borrow::Cow;
use std::io::{self, IsTerminal, StdoutLock, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Failure;
use super::shown::shown;
#[cfg(unix)]
use super::signals;
use crate::session::{Delta, Reader, TextEvent, TextFinished, TextGeneration};

/// Longest delay before Ctrl-C is noticed while no token arrives.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Ctrl-C handler: cancels the answer being generated; with none, ends the program.
pub struct Interrupt {
    pressed: Arc<AtomicBool>,
    /// No answer is running.
    idle: Arc<AtomicBool>,
}

impl Interrupt {
    /// Installs the handler; at most once per process.
    pub fn install() -> Result<Self, Failure> {
        let interrupt = Self { pressed: Arc::default(), idle: Arc::new(AtomicBool::new(true)) };
        interrupt.register().map_err(|error| Failure::new(format!("cannot take over Ctrl-C: {error}")))?;
        Ok(interrupt)
    }

    /// SIGINT only: SIGTERM keeps its default, which ends the program.
    #[cfg(unix)]
    fn register(&self) -> io::Result<()> {
        use signal_hook::consts::SIGINT;
        if signals::is_ignored(SIGINT) {
            return Ok(());
        }
        signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&self.idle))?;
        signal_hook::flag::register(SIGINT, Arc::clone(&self.pressed))?;
        Ok(())
    }

    #[cfg(not(unix))]
    fn register(&self) -> io::Result<()> {
        let (pressed, idle) = (Arc::clone(&self.pressed), Arc::clone(&self.idle));
        let handler = move || {
            if idle.load(Ordering::SeqCst) {
                std::process::exit(130);
            }
            pressed.store(true, Ordering::SeqCst);
        };
        ctrlc::set_handler(handler).map_err(io::Error::other)
    }

    fn begin(&self) {
        self.pressed.store(false, Ordering::SeqCst);
        self.idle.store(false, Ordering::SeqCst);
    }

    fn end(&self) {
        self.idle.store(true, Ordering::SeqCst);
    }

    fn was_pressed(&self) -> bool {
        self.pressed.load(Ordering::SeqCst)
    }
}

/// A finished or cancelled answer.
pub struct Answer {
    /// The text written so far.
    pub text: String,
    /// The reasoning before it.
    pub reasoning: String,
    /// Token counts and timings; `None` if stdout was closed before the answer ended.
    pub finished: Option<TextFinished>,
    /// Ctrl-C ended it.
    pub interrupted: bool,
}

/// Writes an answer as it is generated; its reasoning goes to terminals alone, dimmed. A broken pipe ends it without an error.
///
/// # Errors
/// Stdout cannot be written, or generation failed.
pub fn stream(
    mut generation: TextGeneration,
    mut reader: Reader,
    out: &mut StdoutLock<'_>,
    interrupt: &Interrupt,
) -> Result<Answer, Failure> {
    interrupt.begin();
    let result = follow(&mut generation, &mut reader, out, interrupt);
    interrupt.end();
    let answer = result?;
    if let Some(line) = answer.finished.as_ref().and_then(|finished| finished.reason.failure()) {
        return Err(Failure::new(line));
    }
    Ok(answer)
}

fn follow(
    generation: &mut TextGeneration,
    reader: &mut Reader,
    out: &mut StdoutLock<'_>,
    interrupt: &Interrupt,
) -> Result<Answer, Failure> {
    let mut answer = Answer { text: String::new(), reasoning: String::new(), finished: None, interrupted: false };
    let mut writer = Writer { to_terminal: out.is_terminal(), out, dim: false };
    loop {
        if interrupt.was_pressed() && !answer.interrupted {
            answer.interrupted = true;
            generation.cancel();
        }
        let event = match generation.next_timeout(POLL_INTERVAL) {
            Err(_) => continue,
            // Tokens still in flight when Ctrl-C was pressed are dropped.
            Ok(Some(TextEvent::Text(_))) if answer.interrupted => continue,
            Ok(Some(event)) => event,
            Ok(None) => return Ok(answer),
        };
        if let TextEvent::Finished(finished) = &event {
            answer.finished = Some(finished.clone());
        }
        let written = reader.read(event).iter().try_for_each(|delta| match delta {
            Delta::Text { text, .. } => {
                answer.text.push_str(text);
                writer.write(text, false)
            }
            Delta::Reasoning { text } => {
                answer.reasoning.push_str(text);
                writer.write(text, true)
            }
            // No tools are offered here, so there are no calls.
            Delta::ToolCall { .. } | Delta::Arguments { .. } | Delta::End { .. } => Ok(()),
        });
        match written.and_then(|()| if answer.finished.is_some() { writer.bright() } else { Ok(()) }) {
            Ok(()) if answer.finished.is_some() => return Ok(answer),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                answer.finished = None;
                return Ok(answer);
            }
            Err(error) => return Err(Failure::new(format!("cannot write the answer: {error}"))),
        }
    }
}

/// Writes text and reasoning.
struct Writer<'a, 'b> {
    out: &'a mut StdoutLock<'b>,
    to_terminal: bool,
    /// Reasoning was written last.
    dim: bool,
}

impl Writer<'_, '_> {
    fn write(&mut self, text: &str, reasoning: bool) -> io::Result<()> {
        if reasoning && !self.to_terminal {
            return Ok(());
        }
        if !reasoning && self.dim {
            self.bright()?;
            self.out.write_all(b"\n\n")?;
        }
        if reasoning && !self.dim {
            self.dim = true;
            self.out.write_all(b"\x1b[2m")?;
        }
        let text = if self.to_terminal { shown(text) } else { Cow::Borrowed(text) };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Ends what is dimmed.
    fn bright(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dim) {
            self.out.write_all(b"\x1b[22m")?;
        }
        Ok(())
    }
}
