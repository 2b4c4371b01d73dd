//! Lines that begin with `/`.

/// What `/help` shows.
pub(super) const HELP: &str = "\
/help           this list
/system TEXT    set the system prompt; /system shows it, /system \"\" takes it away
/regen          answer the last question again
/undo           take the last question and its answer back
/clear          begin anew; the system prompt stays
/save FILE      write the conversation as JSON (OpenAI's messages); /save! FILE overwrites
/load FILE      go on with a conversation that was saved
/stats          tokens and speed
/exit           leave; so does Ctrl-D
A \\ at the end of a line goes on in the next one, and so does an open ``` block.
Ctrl-C stops an answer. To send a line that begins with /, put a blank before it.
";

/// A parsed command.
#[derive(Debug, PartialEq)]
pub(super) enum Command<'a> {
    Help,
    /// Without a text, shows the system prompt; with one, sets it; an empty text removes it.
    System(Option<&'a str>),
    Regenerate,
    Undo,
    Clear,
    Save {
        path: &'a str,
        overwrite: bool,
    },
    Load(&'a str),
    Stats,
    Exit,
}

impl<'a> Command<'a> {
    /// `None`: the text is a message. `Err`: a line that says what is wrong with the command.
    pub(super) fn parse(text: &'a str) -> Option<Result<Self, String>> {
        let line = text.strip_prefix('/')?.trim_end();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let file = |command: fn(&'a str) -> Self| match rest {
            "" => Err(format!("/{name} needs a file: /{name} FILE")),
            path => Ok(command(path)),
        };
        let alone = |command: Self| match rest {
            "" => Ok(command),
            _ => Err(format!("/{name} takes nothing after it")),
        };
        Some(match name {
            "help" | "?" => alone(Self::Help),
            "system" => Ok(Self::System(match rest {
                "" => None,
                "\"\"" => Some(""),
                text => Some(text),
            })),
            "regen" => alone(Self::Regenerate),
            "undo" => alone(Self::Undo),
            "clear" => alone(Self::Clear),
            "save" => file(|path| Self::Save { path, overwrite: false }),
            "save!" => file(|path| Self::Save { path, overwrite: true }),
            "load" => file(Self::Load),
            "stats" => alone(Self::Stats),
            "exit" | "quit" => alone(Self::Exit),
            _ => Err(format!(
                "there is no command /{name}; /help lists them (a blank before the / sends it as a message)"
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_distinguished_from_messages() {
        assert_eq!(Command::parse("hello /help"), None);
        assert_eq!(Command::parse(" /etc/passwd, what is it?"), None);
        for (line, command) in [
            ("/help", Command::Help),
            ("/system", Command::System(None)),
            ("/system  Be brief. \n", Command::System(Some("Be brief."))),
            ("/system \"\"", Command::System(Some(""))),
            ("/regen", Command::Regenerate),
            ("/undo ", Command::Undo),
            ("/save my talk.json", Command::Save { path: "my talk.json", overwrite: false }),
            ("/save! x", Command::Save { path: "x", overwrite: true }),
            ("/load x", Command::Load("x")),
            ("/stats", Command::Stats),
            ("/exit", Command::Exit),
        ] {
            assert_eq!(Command::parse(line), Some(Ok(command)), "{line}");
        }
        for line in ["/", "/etc/passwd", "/save", "/load ", "/undo 2", "/HELP"] {
            assert!(matches!(Command::parse(line), Some(Err(_))), "{line}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in ["help", "system", "regen", "undo", "clear", "save", "load", "stats", "exit"] {
            assert!(HELP.contains(&format!("/{name}")), "{name}");
        }
    }
}
