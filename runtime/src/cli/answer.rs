//! An answer as it comes: to a stream, piece by piece, until it ends or the person ends it. Shared by `run` and `chat`.

use std::borrow::Cow;
use std::io::{self, IsTerminal, StdoutLock, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Failure;
use super::shown::shown;
#[cfg(unix)]
use super::signals;
use crate::session::{TextEvent, TextFinished, TextGeneration};

/// How long Ctrl-C may go unseen while no token comes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ctrl-C: ends an answer while one is running, and the program at any other time.
pub struct Interrupt {
    pressed: Arc<AtomicBool>,
    /// No answer is running.
    idle: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes Ctrl-C over; once in a program.
    pub fn install() -> Result<Self, Failure> {
        let interrupt = Self { pressed: Arc::default(), idle: Arc::new(AtomicBool::new(true)) };
        interrupt.register().map_err(|error| Failure::new(format!("cannot take over Ctrl-C: {error}")))?;
        Ok(interrupt)
    }

    /// SIGINT only: SIGTERM goes on ending the program.
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

/// An answer that has ended.
pub struct Answer {
    /// What was written.
    pub text: String,
    /// The model's figures; `None` where the output went away first.
    pub finished: Option<TextFinished>,
    /// Ctrl-C ended it.
    pub interrupted: bool,
}

/// Writes an answer as it comes. A closed pipe ends it quietly; `Err` is another trouble with the output, or the
/// engine's.
pub fn stream(
    mut generation: TextGeneration,
    out: &mut StdoutLock<'_>,
    interrupt: &Interrupt,
) -> Result<Answer, Failure> {
    interrupt.begin();
    let result = follow(&mut generation, out, interrupt);
    interrupt.end();
    let answer = result?;
    if let Some(line) = answer.finished.as_ref().and_then(|finished| finished.reason.failure()) {
        return Err(Failure::new(line));
    }
    Ok(answer)
}

fn follow(generation: &mut TextGeneration, out: &mut StdoutLock<'_>, interrupt: &Interrupt) -> Result<Answer, Failure> {
    let mut answer = Answer { text: String::new(), finished: None, interrupted: false };
    let to_terminal = out.is_terminal();
    loop {
        if interrupt.was_pressed() && !answer.interrupted {
            answer.interrupted = true;
            generation.cancel();
        }
        match generation.next_timeout(LOOK_EVERY) {
            Err(_) | Ok(Some(TextEvent::Prompt { .. })) => {}
            // Tokens that were on their way when Ctrl-C came are not shown any more.
            Ok(Some(TextEvent::Text(_))) if answer.interrupted => {}
            Ok(Some(TextEvent::Text(piece))) => {
                answer.text.push_str(&piece.text);
                let text = if to_terminal { shown(&piece.text) } else { Cow::Borrowed(piece.text.as_str()) };
                match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(answer),
                    Err(error) => return Err(Failure::new(format!("cannot write the answer: {error}"))),
                }
            }
            Ok(Some(TextEvent::Finished(finished))) => {
                answer.finished = Some(finished);
                return Ok(answer);
            }
            Ok(None) => return Ok(answer),
        }
    }
}
