//! `{% generation %}` … `{% endgeneration %}`: marks that Hugging Face's trainer reads and a rendering ignores.
//!
//! No Jinja knows them by itself. They become `{% with %}` … `{% endwith %}`, which does nothing either, is a block with
//! a scope as they are, and keeps the whitespace rules around them.

/// The source with every `generation` tag replaced. Text, strings, comments and raw blocks are left as they are.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut raw = false;
    while let Some(start) = next_opening(rest) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = match &rest[..2] {
            "{#" if !raw => rest.find("#}").map_or(rest.len(), |i| i + 2),
            "{{" if !raw => 2 + closing(&rest[2..], "}}"),
            "{%" => {
                let end = 2 + closing(&rest[2..], "%}");
                let word = tag_word(&rest[..end]);
                match word {
                    "raw" => raw = true,
                    "endraw" => raw = false,
                    "generation" | "endgeneration" if !raw => {
                        let with = if word == "generation" { "with" } else { "endwith" };
                        out.push_str(&rest[..end].replacen(word, with, 1));
                        rest = &rest[end..];
                        continue;
                    }
                    _ => {}
                }
                // Inside a raw block only the opening itself is known to be one.
                if raw && word != "raw" { 2 } else { end }
            }
            _ => 2,
        };
        out.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    out + rest
}

fn next_opening(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|w| matches!(w, b"{{" | b"{%" | b"{#"))
}

/// Length of a tag's inside with its closing mark, strings skipped over.
fn closing(text: &str, mark: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (i, byte) in text.bytes().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if byte == b'"' || byte == b'\'' => quote = Some(byte),
            None if text.as_bytes()[i..].starts_with(mark.as_bytes()) => return i + mark.len(),
            None => {}
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

#[cfg(test)]
mod tests {
    use super::without_generation_tags as without;

    #[test]
    fn only_tags_change() {
        assert_eq!(without("a{%- generation -%} b {% endgeneration %}c"), "a{%- with -%} b {% endwith %}c");
        for unchanged in [
            "no tags { % { generation",
            "{# {% generation %} #}x",
            "{{ '{% generation %}' }}{{ \"\\\"{% generation %}\" }}",
            "{% raw %}{% generation %}{{ '{% endraw %}",
            "{% set generation = '%} {% generation %}' %}",
            "{% if generation %}{% endif %}{{",
            "{%",
        ] {
            assert_eq!(without(unchanged), unchanged);
        }
        assert_eq!(without("{% raw %}{{{% endraw %}{% generation %}"), "{% raw %}{{{% endraw %}{% with %}");
    }
}
