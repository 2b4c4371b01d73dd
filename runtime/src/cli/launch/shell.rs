//! `satchel launch --print`: a setup as lines for a POSIX shell.

use std::ffi::OsString;

use super::clients::{Client, Setup};

/// Stands for the temporary folder, which the printed lines make.
pub(super) const FOLDER: &str = "@satchel-folder@";

/// The lines: a folder with the files, the variables, and the command as a comment, so that `eval` only prepares the shell.
pub(super) fn lines(client: &Client, setup: &Setup, arguments: &[OsString]) -> String {
    let mut text = "satchel_folder=$(mktemp -d)\n".to_owned();
    for (name, content) in &setup.files {
        let path = quoted(&format!("{FOLDER}/{name}"));
        text += &format!("mkdir -p \"$(dirname {path})\"\nprintf '%s' {} >{path}\n", quoted(content));
    }
    for name in setup.unset {
        text += &format!("unset {name}\n");
    }
    for (name, value) in &setup.environment {
        text += &format!("export {name}={}\n", quoted(value));
    }
    let own = setup.arguments.iter().map(|argument| quoted(argument));
    let given = arguments.iter().map(|argument| quoted(&argument.to_string_lossy()));
    let command = own.chain(given).fold(client.program.to_owned(), |line, argument| line + " " + &argument);
    text + &format!("# {}\n", command.replace('\n', " "))
}

/// A word of the shell; the folder's stand-in becomes the variable.
fn quoted(text: &str) -> String {
    let whole = format!("'{}'", text.replace('\'', r"'\''"));
    whole.replace(FOLDER, "'\"$satchel_folder\"'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_shell_reads_the_lines_back() {
        let client = Client { name: "c", program: "true", install: "install", setup: |_| Setup::default() };
        let setup = Setup {
            environment: vec![("A", "it's $HOME".into()), ("B", format!("{FOLDER}/state"))],
            unset: &["C"],
            arguments: vec!["--flag".into()],
            files: vec![("a/b.txt", "x'y\n$z".into())],
        };
        let script = lines(&client, &setup, &["a b".into()])
            + "printf '%s|%s|%s|' \"$A\" \"${B#$satchel_folder}\" \"${C-gone}\"\n"
            + "cat \"$satchel_folder/a/b.txt\"; rm -r \"$satchel_folder\"";
        assert!(script.contains("# true '--flag' 'a b'\n"), "{script}");
        let printed = std::process::Command::new("sh").arg("-c").arg(&script).env("C", "c").output().expect("sh");
        assert_eq!(String::from_utf8_lossy(&printed.stdout), "it's $HOME|/state|gone|x'y\n$z", "{script}");
    }
}
