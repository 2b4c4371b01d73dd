//! The report as text: aligned columns, long arrays truncated, sizes as a file manager shows them.
//!
//! Text from the file is escaped, so that a hostile one cannot send escape sequences to the terminal.

use std::io::{self, Write};

use satchel_container::Digest;
use satchel_gguf::{Array, Value};
use satchel_packer::shown_bytes;

use super::report::Report;

/// Array elements shown.
const ELEMENTS_SHOWN: usize = 6;
/// Characters of a string shown.
const CHARS_SHOWN: usize = 72;

/// Writes everything but the hashes.
pub(super) fn write(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    write_summary(out, report)?;
    write_packed(out, report)?;
    write_metadata(out, report)?;
    write_tensors(out, report)?;
    write_block_types(out, report)?;
    write_memory(out, report)?;
    write_templates(out, report)
}

fn write_summary(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    let gguf = report.gguf;
    let text = |key: &str| gguf.metadata.get_str(key).ok().flatten().map(|text| cut(text, CHARS_SHOWN));
    let bytes: u64 = report.files.iter().map(|file| file.bytes).sum();
    let parts = match report.files.len() {
        1 => String::new(),
        parts => format!(" in {parts} parts"),
    };
    writeln!(out, "{}", cut(&report.path, usize::MAX))?;
    let mut row = |name: &str, value: Option<String>| match value {
        Some(value) => writeln!(out, "  {name:<16}{value}"),
        None => Ok(()),
    };
    row("name", Some(cut(&report.name, CHARS_SHOWN)))?;
    row("architecture", Some(text("general.architecture").unwrap_or_else(|| "not given".to_owned())))?;
    row("parameters", Some(format!("{} ({})", short_count(report.parameters), grouped(report.parameters))))?;
    row("bits per weight", report.bits_per_weight().map(|bits| format!("{bits:.2}")))?;
    row("context", report.trained_context.map(|context| format!("{} tokens", grouped(context))))?;
    row("license", text("general.license"))?;
    let version = gguf.version;
    let form = format!("GGUF version {version}, {}{parts}, tensors aligned to {}", shown_bytes(bytes), gguf.alignment);
    row("format", Some(form))
}

fn write_packed(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    let Some(packed) = report.packed else { return Ok(()) };
    let bundle = &packed.bundle;
    let entries = bundle.entries();
    heading(
        out,
        &format!("Packed ({} entries behind a program of {})", entries.len(), shown_bytes(bundle.program_bytes)),
    )?;
    let width = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
    for entry in entries {
        writeln!(out, "  {:<width$}  {:>9}  at {}", entry.name, shown_bytes(entry.size), entry.offset)?;
    }
    Ok(())
}

fn write_metadata(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    let metadata = &report.gguf.metadata;
    heading(out, &format!("Metadata ({})", metadata.len()))?;
    let rows: Vec<[String; 3]> = metadata
        .iter()
        .map(|(key, value)| {
            let ty = match value {
                Value::Array(array) => format!("{}[{}]", array.element_type().name(), array.len()),
                scalar => scalar.value_type().name().to_owned(),
            };
            [cut(key, CHARS_SHOWN), ty, shown(value)]
        })
        .collect();
    columns(out, &rows, [Side::Left, Side::Left, Side::Left])
}

fn write_tensors(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    let tensors = &report.gguf.tensors;
    heading(out, &format!("Tensors ({}, {})", tensors.len(), shown_bytes(report.tensor_bytes)))?;
    let rows: Vec<[String; 4]> = tensors
        .iter()
        .map(|tensor| {
            let shape: Vec<String> = tensor.dimensions.iter().map(u64::to_string).collect();
            let shape = format!("[{}]", shape.join(", "));
            [cut(&tensor.name, CHARS_SHOWN), shape, tensor.ty.name().to_owned(), shown_bytes(tensor.bytes)]
        })
        .collect();
    columns(out, &rows, [Side::Left, Side::Left, Side::Left, Side::Right])
}

fn write_block_types(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    heading(out, "Block types")?;
    let rows: Vec<[String; 4]> = report
        .block_types
        .iter()
        .map(|sum| {
            let share = sum.bytes as f64 * 100.0 / report.tensor_bytes.max(1) as f64;
            let tensors = format!("{} tensors", sum.tensors);
            [sum.ty.name().to_owned(), tensors, shown_bytes(sum.bytes), format!("{share:.1} %")]
        })
        .collect();
    columns(out, &rows, [Side::Left, Side::Right, Side::Right, Side::Right])
}

fn write_memory(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    heading(out, "Memory")?;
    let weights = shown_bytes(report.tensor_bytes);
    if let Err(unknown) = &report.kv_bytes_per_token {
        writeln!(out, "  weights   {weights}")?;
        return writeln!(out, "  KV cache  unknown: {}", cut(&unknown.0, usize::MAX));
    }
    let cache = format!("KV cache ({})", report.cache);
    let mut rows = vec![["context", "weights", &cache, "to work in", "resident"].map(str::to_owned)];
    for &context in &report.contexts {
        let kv = report.kv_bytes(context).map_or_else(|| "too much".to_owned(), shown_bytes);
        let [working, total] = match report.memory(context) {
            Ok(memory) => [memory.working_bytes(), memory.total_bytes()].map(shown_bytes),
            Err(_) => ["unknown"; 2].map(str::to_owned),
        };
        rows.push([grouped(context), weights.clone(), kv, working, total]);
    }
    columns(out, &rows, [Side::Right; 5])
}

fn write_templates(out: &mut impl Write, report: &Report<'_>) -> io::Result<()> {
    let mut any = false;
    for (name, text) in report.templates() {
        any = true;
        match name {
            None => heading(out, "Chat template")?,
            Some(name) => heading(out, &format!("Chat template {}", cut(name, CHARS_SHOWN)))?,
        }
        for line in text.lines() {
            writeln!(out, "  {}", escaped(line.chars()))?;
        }
    }
    if !any {
        heading(out, "Chat template")?;
        writeln!(out, "  none")?;
    }
    let Some(conversation) = report.conversation() else { return Ok(()) };
    match conversation.built_in {
        Some(name) => heading(out, &format!("A conversation, by the built-in template {name:?}"))?,
        None => heading(out, "A conversation")?,
    }
    match &conversation.text {
        Ok(text) => text.split('\n').try_for_each(|line| writeln!(out, "  {}", escaped(line.chars()))),
        Err(line) => writeln!(out, "  {}", escaped(line.chars())),
    }
}

/// Writes the hashes, and for a packed file whether they match the manifest.
pub(super) fn write_hashes(out: &mut impl Write, report: &Report<'_>, hashes: &[Digest]) -> io::Result<()> {
    heading(out, "SHA-256")?;
    for (file, hash) in report.files.iter().zip(hashes) {
        let entry = report.packed.and_then(|packed| packed.bundle.entry(&file.name));
        let verdict = match entry {
            Some(entry) if entry.sha256 == *hash => "  as packed",
            Some(_) => "  DAMAGED: not what was packed; get the file again",
            None => "",
        };
        writeln!(out, "  {hash}  {}{verdict}", cut(&file.name, usize::MAX))?;
    }
    Ok(())
}

fn heading(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{text}")
}

#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// Writes rows with each column as wide as its widest cell.
fn columns<const N: usize>(out: &mut impl Write, rows: &[[String; N]], sides: [Side; N]) -> io::Result<()> {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for ((cell, width), side) in row.iter().zip(widths).zip(sides) {
            let padding = " ".repeat(width - cell.chars().count());
            line.push_str("  ");
            match side {
                Side::Left => line.extend([cell.as_str(), &padding]),
                Side::Right => line.extend([padding.as_str(), cell]),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A metadata value in one line.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text, CHARS_SHOWN),
        Value::Array(array) => shown_array(array),
        Value::Bool(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        _ => value.as_i128().map(|number| number.to_string()).unwrap_or_default(),
    }
}

fn shown_array(array: &Array) -> String {
    const ELEMENT_CHARS: usize = 16;
    let element = |at: usize| match array.get(at) {
        Some(Value::String(text)) => format!("\"{}\"", cut(&text, ELEMENT_CHARS)),
        Some(Value::Array(inner)) => format!("{}[{}]", inner.element_type().name(), inner.len()),
        Some(value) => shown(&value),
        None => String::new(),
    };
    let mut elements: Vec<String> = (0..array.len().min(ELEMENTS_SHOWN)).map(element).collect();
    if array.len() > ELEMENTS_SHOWN {
        elements.push("…".to_owned());
    }
    format!("[{}]", elements.join(", "))
}

/// Text from a file, escaped to one line and truncated to `chars` characters.
fn cut(text: &str, chars: usize) -> String {
    let mut line = escaped(text.chars().take(chars));
    if text.chars().nth(chars).is_some() {
        line.push('…');
    }
    line
}

/// Escapes control characters as Rust does; everything else is unchanged.
fn escaped(text: impl Iterator<Item = char>) -> String {
    let mut line = String::new();
    for letter in text {
        // Bidirectional formatting characters are not controls but can make a line read wrongly.
        let is_bidi = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match letter {
            '\t' => line.push_str("    "),
            _ if letter.is_control() || is_bidi => line.extend(letter.escape_default()),
            _ => line.push(letter),
        }
    }
    line
}

/// 134515008 as 134,515,008.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// 134515008 as 134.5 M, as model names count parameters.
pub(in crate::cli) fn short_count(number: u64) -> String {
    const STEPS: [(u64, &str); 4] =
        [(1_000_000_000_000, " T"), (1_000_000_000, " B"), (1_000_000, " M"), (1_000, " K")];
    match STEPS.into_iter().find(|(step, _)| number >= *step) {
        Some((step, unit)) => format!("{:.1}{unit}", number as f64 / step as f64),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_shortened() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1000), grouped(134_515_008)],
            ["0", "999", "1,000", "134,515,008"]
        );
        assert_eq!(
            [short_count(999), short_count(134_515_008), short_count(7_000_000_000)],
            ["999", "134.5 M", "7.0 B"]
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(cut("a\u{1b}[2Jb\nc", 99), "a\\u{1b}[2Jb\\nc");
        assert_eq!(cut("safe\u{202e}exe", 99), "safe\\u{202e}exe");
        assert_eq!(cut("日本語日本語", 3), "日本語…");
    }

    #[test]
    fn long_arrays_are_truncated() {
        let numbers = Value::Array(Array::I32((0..9).collect()));
        assert_eq!(shown(&numbers), "[0, 1, 2, 3, 4, 5, …]");
        let nested = Value::Array(Array::Array(vec![Array::Bool(vec![true])]));
        assert_eq!(shown(&nested), "[bool[1]]");
    }
}
