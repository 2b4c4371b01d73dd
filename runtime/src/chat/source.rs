//! Rewrites a template's source where `minijinja`'s parser differs from Jinja's.
//!
//! There are four differences: line endings (Jinja normalises them to `\n`), `{% generation %}` (Hugging Face's training
//! markers, not part of Jinja), the line break after `{% raw %}` (Jinja keeps it), and some escape sequences in strings.

/// The source for the parser. Line numbers are preserved.
pub(super) fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut raw = false;
    while let Some(start) = next_opening(rest) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = match &rest[..2] {
            "{#" if !raw => rest.find("#}").map_or(rest.len(), |i| i + 2),
            "{{" if !raw => 2 + closing(&rest[2..], "}}"),
            "{%" => 2 + closing(&rest[2..], "%}"),
            _ => 2,
        };
        let word = if rest.starts_with("{%") { tag_word(&rest[..end]) } else { "" };
        let tag = &rest[..end];
        match word {
            "endraw" if raw => raw = false,
            // Within a raw block, skip only the opening: what follows need not be a tag.
            _ if raw => {
                out.push_str(&rest[..2]);
                rest = &rest[2..];
                continue;
            }
            "raw" => raw = true,
            _ => {}
        }
        rest = &rest[end..];
        match word {
            // Replace by `with`, which also does nothing but open a scope, under the same whitespace rules.
            "generation" => out.push_str(&tag.replacen(word, "with", 1)),
            "endgeneration" => out.push_str(&tag.replacen(word, "endwith", 1)),
            "raw" => match tag.strip_suffix("%}") {
                Some(open) if !open.ends_with(['-', '+']) => {
                    out.push_str(open);
                    out.push_str("+%}");
                }
                _ => out.push_str(tag),
            },
            _ if tag.starts_with("{#") => out.push_str(tag),
            _ => with_pythons_escapes(tag, &mut out),
        }
    }
    out + rest
}

fn next_opening(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|w| matches!(w, b"{{" | b"{%" | b"{#"))
}

/// Length of a tag's contents and closing mark, skipping strings.
fn closing(text: &str, mark: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    // Braces of dictionaries may look like the closing mark, as in `{{ {'a': {}} }}`.
    let mut open = 0usize;
    for (i, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(mark), byte) if byte == mark => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') => open += 1,
            (None, b'}') if open > 0 => open -= 1,
            (None, _) if open == 0 && text.as_bytes()[i..].starts_with(mark.as_bytes()) => return i + mark.len(),
            (None, _) => {}
        }
    }
    text.len()
}

/// The first word of a `{% … %}` tag.
fn tag_word(tag: &str) -> &str {
    let inside = tag.trim_start_matches("{%").trim_start_matches(['-', '+']).trim_start();
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
    &inside[..end]
}

/// Copies a tag, rewriting escape sequences in its strings that Python and the parser read differently.
fn with_pythons_escapes(tag: &str, out: &mut String) {
    let mut quote = None;
    let mut rest = tag;
    while let Some(c) = rest.chars().next() {
        match (quote, c) {
            (Some(_), '\\') => {
                let taken = escape(rest, out);
                rest = &rest[taken..];
                continue;
            }
            (Some(mark), c) if c == mark => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            _ => {}
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
}

/// Copies the escape sequence at the start of `text`; returns its length.
fn escape(text: &str, out: &mut String) -> usize {
    let Some(c) = text[1..].chars().next() else {
        out.push('\\');
        return 1;
    };
    let long = (c == 'U').then(|| text.get(2..10)).flatten();
    let long = long.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
    match c {
        '/' => out.push_str("\\\\/"),
        'a' => out.push('\u{7}'),
        'v' => out.push('\u{b}'),
        '\n' => {}
        'U' if let Some(c) = long => {
            if matches!(c, '\\' | '"' | '\'') {
                out.push('\\');
            }
            out.push(c);
            return 10;
        }
        c => {
            out.push('\\');
            out.push(c);
        }
    }
    1 + c.len_utf8()
}

#[cfg(test)]
mod tests {
    use super::prepared;

    #[test]
    fn only_differences_between_the_parsers_are_rewritten() {
        assert_eq!(prepared("a{%- generation -%} b {% endgeneration %}c"), "a{%- with -%} b {% endwith %}c");
        for unchanged in [
            "no tags { % { generation",
            "{# {% generation %} #}x",
            "{{ '{% generation %}' }}{{ \"\\\"{% generation %}\" }}",
            "{% raw -%}{% generation %}{{ '{% endraw %}",
            "{% set generation = '%} {% generation %}' %}",
            "{% if generation %}{% endif %}{{",
            "{{ {'a': {'b': '}}'}} }}{{ '\\n\\t\\x41\\u00e9\\'' }}",
            "{%",
        ] {
            assert_eq!(prepared(unchanged), unchanged);
        }
        assert_eq!(prepared("{% raw %}{{{% endraw %}{% generation %}"), "{% raw +%}{{{% endraw %}{% with %}");
        assert_eq!(prepared("a\r\nb\rc"), "a\nb\nc");
        assert_eq!(prepared("{{ '\\/\\a\\U0001F980' }}\\/"), "{{ '\\\\/\u{7}🦀' }}\\/");
    }
}
