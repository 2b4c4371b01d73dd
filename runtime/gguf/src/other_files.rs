//! Recognises files that are not GGUF: users run into renamed zips, error pages saved as models, Git LFS pointers.

/// A file type's first bytes, and the message if one is mistaken for a model.
const KNOWN: &[(&[u8], &str)] = &[
    (b"lmgg", "it is a GGML file of early 2023; download a GGUF of this model"),
    (b"fmgg", "it is a GGMF file of early 2023; download a GGUF of this model"),
    (b"tjgg", "it is a GGJT file of 2023; download a GGUF of this model"),
    (b"algg", "it is a GGLA adapter of 2023; download a GGUF of this model"),
    (b"FUGG", "its first bytes are swapped (FUGG); download it again"),
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer in place of the file; run 'git lfs pull', or download the file itself",
    ),
    (b"PK\x03\x04", "it is a zip archive (PyTorch keeps weights in such); unpack it, or download a GGUF of this model"),
    (b"PK\x05\x06", "it is an empty zip archive"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first"),
    (b"\xfd7zXZ\x00", "it is compressed with xz; unpack it first"),
    (b"BZh", "it is compressed with bzip2; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"),
    (b"Rar!", "it is a rar archive; unpack it first"),
    (b"\x80\x02", "it is a Python pickle (a PyTorch checkpoint); download a GGUF of this model"),
    (b"\x89HDF", "it is an HDF5 file (a Keras checkpoint); download a GGUF of this model"),
    (
        b"\x7fELF",
        "it is a program for Linux; a packed model is opened by running it, or by 'satchel -m' once satchel made it",
    ),
    (b"MZ", "it is a program for Windows"),
    (b"\xcf\xfa\xed\xfe", "it is a program for macOS"),
    (b"\xca\xfe\xba\xbe", "it is a program for macOS"),
    (b"%PDF", "it is a PDF document"),
    (b"<?xml", "it is an XML page, most likely an error message saved by a download; look at it with a text editor"),
    (b"Entry not found", "it is the error message of a failed download (Entry not found); check the address"),
    (b"Repository not found", "it is the error message of a failed download (Repository not found); check the address"),
    (b"Invalid username or password", "it is the error message of a failed download (it needs a login)"),
    (b"Access to model", "it is the error message of a failed download (access to the model must be asked for)"),
];

/// One line for a file that does not start with `GGUF`.
pub(crate) fn describe(file: &[u8]) -> String {
    if file.is_empty() {
        return "it is empty".to_owned();
    }
    if let Some((_, line)) = KNOWN.iter().find(|(start, _)| file.starts_with(start)) {
        return (*line).to_owned();
    }
    let head = &file[..file.len().min(512)];
    if head.iter().all(|&byte| byte == 0) {
        return "it begins with zeros, as an unfinished download does; download it again".to_owned();
    }
    if is_safetensors(head) {
        return "it is a safetensors file; download a GGUF of this model or convert it".to_owned();
    }
    let text = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        return "it is a web page, most likely saved in place of the file; use the download link of the file itself"
            .to_owned();
    }
    if text.starts_with('{') {
        return "it is a JSON text, most likely a configuration or an error message of a download".to_owned();
    }
    let start: Vec<String> = head.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("it begins with the bytes {} where 47 47 55 46 (GGUF) should be", start.join(" "))
}

/// A safetensors file starts with the length of a JSON object, then the object.
fn is_safetensors(head: &[u8]) -> bool {
    head.get(8) == Some(&b'{') && head[5..8] == [0; 3]
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn known_files_are_named() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "empty"),
            (b"PK\x03\x04rest", "zip archive"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"\n <!DOCTYPE html><html>", "web page"),
            (b"<HTML>", "web page"),
            (b"\x40\x01\0\0\0\0\0\0{\"__metadata__\":{}}", "safetensors"),
            (b"{\"error\": 1}", "JSON"),
            (b"tjgg\x03\0\0\0", "GGJT"),
            (&[0; 64], "zeros"),
            (b"abcdefgh", "61 62 63 64"),
            (b"\xff", "bytes ff where"),
        ];
        for (file, word) in cases {
            let line = describe(file);
            assert!(line.contains(word), "{file:?}: {line}");
            assert!(!line.contains('\n'));
        }
    }
}
