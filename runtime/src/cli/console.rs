//! The console window that Windows opens for a program started by double click, and closes with it: what the program
//! said last stays readable until Enter is pressed.

/// Waits for Enter where this process is alone in its console and a person can see and answer it; else does nothing.
#[cfg(windows)]
pub(super) fn stay_readable() {
    use std::io::{BufRead, IsTerminal, Write};
    let (input, output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !output.is_terminal() || !alone() {
        return;
    }
    // A console that is gone by now needs nothing more.
    let _ = write!(output.lock(), "\nPress Enter to close this window. ");
    let _ = input.lock().read_line(&mut String::new());
}

/// Whether no other process uses this console. A shell, from which the program would have been started, is one.
#[cfg(windows)]
#[allow(unsafe_code)]
fn alone() -> bool {
    use windows_sys::Win32::System::Console::GetConsoleProcessList;
    let mut processes = [0; 2];
    // SAFETY: the function writes at most 2 numbers to the place for 2.
    let count = unsafe { GetConsoleProcessList(processes.as_mut_ptr(), 2) };
    count == 1
}

/// Other systems' terminals stay.
#[cfg(not(windows))]
pub(super) fn stay_readable() {}
