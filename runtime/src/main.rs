//! The `satchel` executable: which command, run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    satchel::cli::main()
}
