//! GPT-2's byte alphabet: a printable character for every byte, so that any text is a string of 256 letters.
//!
//! Byte-level BPE vocabularies and their merges are written in it: a space is `Ġ`, a line end `Ċ`. Printable Latin-1 maps to
//! itself; the other 68 bytes map to the code points from 256 on, in order.
//! Source: `bytes_to_unicode` of OpenAI's GPT-2 (encoder.py).

/// End of the alphabet's code points, exclusive.
const END: usize = 256 + 68;

static CHAR_OF_BYTE: [char; 256] = chars();
static BYTE_OF_CHAR: [Option<u8>; END] = bytes();

const fn maps_to_itself(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn chars() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 256_u32;
    let mut byte = 0_usize;
    while byte < 256 {
        table[byte] = if maps_to_itself(byte as u8) {
            byte as u8 as char
        } else {
            next += 1;
            match char::from_u32(next - 1) {
                Some(c) => c,
                None => panic!("256..324 are code points"),
            }
        };
        byte += 1;
    }
    table
}

const fn bytes() -> [Option<u8>; END] {
    let mut table = [None; END];
    let mut byte = 0_usize;
    while byte < 256 {
        table[chars()[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    table
}

/// The letter of a byte.
pub(super) fn letter(byte: u8) -> char {
    CHAR_OF_BYTE[usize::from(byte)]
}

/// The byte of a letter; `None` for a character outside the alphabet.
pub(super) fn byte(letter: char) -> Option<u8> {
    BYTE_OF_CHAR.get(letter as usize).copied().flatten()
}

/// The bytes that a token's text encodes. A character outside the alphabet, as in added tokens, encodes itself.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_unique_printable_letter() {
        for value in 0..=255 {
            assert_eq!(byte(letter(value)), Some(value));
            assert!(!letter(value).is_whitespace() && !letter(value).is_control());
        }
    }

    #[test]
    fn known_letters() {
        assert_eq!((letter(b' '), letter(b'\n'), letter(b'a'), letter(0xC3)), ('Ġ', 'Ċ', 'a', 'Ã'));
        assert_eq!(decode("ĠÃ¤"), " ä".as_bytes());
        assert_eq!(decode("a▁b 中"), "a▁b 中".as_bytes(), "outside the alphabet");
        assert_eq!(byte(' '), None);
    }
}
