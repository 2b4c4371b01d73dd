//! Windows opens a console for a double-clicked program and closes it on exit: waiting for Enter keeps the last output
//! readable.

/// Waits for Enter if this process is alone in an interactive console; otherwise does nothing.
#[cfg(windows)]
pub(super) fn stay_readable() {
    use std::io::{BufRead, IsTerminal, Write};
    let (input, output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !output.is_terminal() || !alone() {
        return;
    }
    // If the console is already closed, there is nothing left to do.
    let _ = write!(output.lock(), "\nPress Enter to close this window. ");
    let _ = input.lock().read_line(&mut String::new());
}

/// Whether no other process uses this console; a shell that started the program would be one.
#[cfg(windows)]
#[allow(unsafe_code)]
fn alone() -> bool {
    use windows_sys::Win32::System::Console::GetConsoleProcessList;
    let mut processes = [0; 2];
    // SAFETY: the function writes at most 2 numbers to the place for 2.
    let count = unsafe { GetConsoleProcessList(processes.as_mut_ptr(), 2) };
    count == 1
}

/// On other systems the terminal outlives the program.
#[cfg(not(windows))]
pub(super) fn stay_readable() {}
