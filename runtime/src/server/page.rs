//! The chat page embedded in this executable, built from `web-ui/` by `build.rs`.
//!
//! Paths are relative to the page's root: `index.html` and a few other fixed names, and `assets/`, whose names contain a
//! hash of the content and can be cached for ever. A bundle packed with `--ui DIR` serves that folder instead.

use include_dir::{Dir, include_dir};

/// The page's files.
pub static PAGE: Dir<'static> = include_dir!("$OUT_DIR/page");

#[cfg(test)]
mod tests {
    use super::PAGE;

    #[test]
    fn the_embedded_index_refers_only_to_embedded_files() {
        let index = PAGE.get_file("index.html").and_then(|file| file.contents_utf8()).expect("index.html is text");
        let mut names = 0;
        for part in index.split(['"', '\'']) {
            if let Some(name) = part.strip_prefix("./") {
                assert!(PAGE.get_file(name).is_some(), "index.html names {name}, which is not embedded");
                names += 1;
            }
        }
        assert!(names >= 2, "index.html names its script and its style sheet, found {names} names");
    }

    #[test]
    fn index_works_under_the_strict_content_security_policy() {
        let index = PAGE.get_file("index.html").and_then(|file| file.contents_utf8()).expect("index.html is text");
        assert!(!index.contains("<style") && !index.contains(" style="), "inline styles are forbidden");
        for script in index.split("<script").skip(1) {
            assert!(script.contains(" src="), "inline scripts are forbidden: <script{script}");
        }
        assert!(!index.contains("http://") && !index.contains("https://"), "the page names no other origin");
    }
}
