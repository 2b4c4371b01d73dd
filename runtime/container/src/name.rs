//! Names of entries: which ones a bundle may hold, so that taking them out can touch nothing but the chosen folder.
//!
//! One rule for every platform: a name that is safe on one system and not on another would make a file that works
//! here and not there.

/// Longest name, in bytes.
pub const NAME_MAX_BYTES: usize = 512;

/// Device names that Windows reserves in every folder, with any extension.
const RESERVED: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// Whether `name` is a relative path with `/` between its parts that stays inside the folder it is written to, on
/// every platform.
///
/// # Errors
/// What is wrong with the name.
pub fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return Err("a name has 1 to 512 bytes");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')) {
        return Err("a name holds no control characters and none of \\ : * ? \" < > |");
    }
    name.split('/').try_for_each(check_part)
}

fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() || part == "." || part == ".." {
        return Err("a name is a relative path without empty parts, `.` or `..`");
    }
    if part.ends_with('.') || part.ends_with(' ') {
        return Err("no part of a name ends with a dot or a space");
    }
    let stem = part.split('.').next().unwrap_or(part).trim_end();
    if RESERVED.iter().any(|reserved| stem.eq_ignore_ascii_case(reserved)) {
        return Err("Windows reserves this name for a device");
    }
    Ok(())
}

/// The form in which two names are the same file on some platform.
pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_names_that_stay_inside_the_folder_pass() {
        for good in
            ["model.gguf", "ui/assets/index-a1b2.js", "licenses/LICENSE", ".well-known/x", "ui/日本.html", "a..b"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = "x".repeat(513);
        for bad in [
            "",
            "/etc/passwd",
            "../up",
            "ui/../../up",
            "ui//x",
            "ui/",
            "./x",
            "C:/x",
            "a\\b",
            "a\0b",
            "a\nb",
            "nul",
            "ui/CON.txt",
            "x.",
            "x ",
            "aux .txt",
            &long,
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
