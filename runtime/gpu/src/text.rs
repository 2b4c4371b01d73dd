//! Shaders' text: loops that are written out, and several copies of a part in one shader.
//!
//! Drivers do not unroll every loop, and arrays that a loop counts through land in memory instead of registers. So what is repeated a
//! known number of times is written out here: the lines between `//repeat $r NAME` and `//end`, with `$r` counted up to a constant of
//! this name. A shader that has a part once for each of several matrices names each copy's declarations apart.

use std::collections::HashMap;

/// Writes out what is repeated. `constants` are the numbers that `NAME` may be, each also declared for the shader.
///
/// # Panics
/// If a repetition has no end or no constant: an error in a shader's file, found by the test that compiles all.
pub(crate) fn expand(text: &str, constants: &[(&str, u32)]) -> String {
    let constants: HashMap<&str, u32> = constants.iter().copied().collect();
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::with_capacity(2 * text.len());
    write_out(&lines, &constants, &mut out);
    out
}

fn write_out(lines: &[&str], constants: &HashMap<&str, u32>, out: &mut String) {
    let mut at = 0;
    while at < lines.len() {
        let Some(head) = lines[at].trim().strip_prefix("//repeat ") else {
            out.push_str(lines[at]);
            out.push('\n');
            at += 1;
            continue;
        };
        let (name, count) = head.split_once(' ').expect("a name and a constant");
        let end = at + 1 + end_of(&lines[at + 1..]);
        for number in 0..constants[count] {
            let number = number.to_string();
            let counted: Vec<String> = lines[at + 1..end].iter().map(|line| line.replace(name, &number)).collect();
            write_out(&counted.iter().map(String::as_str).collect::<Vec<_>>(), constants, out);
        }
        at = end + 1;
    }
}

/// The line that ends a repetition, of those behind its head.
fn end_of(lines: &[&str]) -> usize {
    let mut depth = 1;
    let end = lines.iter().position(|line| {
        let line = line.trim();
        depth += usize::from(line.starts_with("//repeat "));
        depth -= usize::from(line == "//end");
        depth == 0
    });
    end.expect("every repetition has an end")
}

/// The text with `suffix` at each name that it declares outside of functions.
pub(crate) fn renamed(text: &str, suffix: &str) -> String {
    let declared: Vec<&str> = text.lines().filter_map(declared).collect();
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut out = String::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, word) = rest.split_at(start);
        let (word, after) = word.split_at(word.find(|letter| !is_word(letter)).unwrap_or(word.len()));
        out.push_str(before);
        out.push_str(word);
        // A member of the same name is not what was declared.
        if declared.contains(&word) && !before.ends_with('.') {
            out.push_str(suffix);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The name that a line declares for the whole shader.
fn declared(line: &str) -> Option<&str> {
    let line = if line.starts_with("@group") { line.split_once(" var").map(|(_, rest)| rest)? } else { line };
    let rest = ["fn ", "const ", "struct ", "alias "].iter().find_map(|kind| line.strip_prefix(kind));
    let rest = rest.or_else(|| {
        line.strip_prefix("var").unwrap_or(line).strip_prefix('<')?.split_once("> ").map(|(_, rest)| rest)
    })?;
    rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_written_out_one_in_the_other() {
        let text = "a\n//repeat $r ROWS\nb$r\n//repeat $t TWO\nc$r$t\n//end\n//end\nd";
        assert_eq!(expand(text, &[("ROWS", 2), ("TWO", 2)]), "a\nb0\nc00\nc01\nb1\nc10\nc11\nd\n");
        assert_eq!(expand(text, &[("ROWS", 0), ("TWO", 2)]), "a\nd\n");
    }

    #[test]
    fn what_a_text_declares_is_renamed_and_nothing_else() {
        let text = "@group(0) @binding(2) var<storage, read> weights: array<u32>;\nvar<workgroup> w: u32;\nconst N = 2u;\n\
                    struct G {\n    size: f32,\n}\nfn scale(g: G) -> f32 {\n    let n = N + weights[0];\n    return g.w;\n}\n";
        let right = "@group(0) @binding(2) var<storage, read> weights_1: array<u32>;\nvar<workgroup> w_1: u32;\n\
                     const N_1 = 2u;\nstruct G_1 {\n    size: f32,\n}\nfn scale_1(g: G_1) -> f32 {\n    \
                     let n = N_1 + weights_1[0];\n    return g.w;\n}\n";
        assert_eq!(renamed(text, "_1"), right);
    }
}
