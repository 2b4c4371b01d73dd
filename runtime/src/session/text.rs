//! Bytes of tokens to displayable text: complete characters only, and never part of a stop string.
//!
//! Pure: no model, no tokenizer, no thread. The one idea to know: it holds back the shortest tail whose meaning a later
//! token could change, which is an incomplete UTF-8 character, or the longest suffix that is a prefix of a stop string. The
//! result does not depend on token boundaries.

/// Assembles the text of a token stream.
pub struct TextAssembler {
    stop: Vec<String>,
    /// At most three bytes of an incomplete character.
    unfinished: Vec<u8>,
    /// Complete characters that may be the beginning of a stop string.
    held: String,
    /// A stop string was completed; all later text is dropped.
    stopped: bool,
}

/// What one push released for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    /// Text to show now; may be empty.
    pub text: String,
    /// A stop string was completed; `text` ends before it.
    pub stop: Option<String>,
}

impl TextAssembler {
    /// An assembler that ends when any string in `stop` is completed. Empty strings are ignored: they would end every text
    /// at once.
    pub fn new(stop: &[String]) -> Self {
        let stop = stop.iter().filter(|s| !s.is_empty()).cloned().collect();
        Self { stop, unfinished: Vec::new(), held: String::new(), stopped: false }
    }

    /// Adds a token's bytes. The stop string that is completed first wins; if one character completes several, the longest.
    pub fn push(&mut self, bytes: &[u8]) -> Assembled {
        if self.stopped {
            return Assembled::default();
        }
        self.decode(bytes);
        if let Some((start, stop)) = self.find_stop() {
            let stop = self.stop[stop].clone();
            self.stopped = true;
            self.held.truncate(start);
            return Assembled { text: std::mem::take(&mut self.held), stop: Some(stop) };
        }
        let tail = self.held.split_off(self.held.len() - self.longest_stop_prefix());
        Assembled { text: std::mem::replace(&mut self.held, tail), stop: None }
    }

    /// Releases what was held back at the end of the stream; an incomplete character becomes U+FFFD.
    pub fn finish(mut self) -> String {
        if !self.unfinished.is_empty() && !self.stopped {
            self.held.push(char::REPLACEMENT_CHARACTER);
            if let Some((start, _)) = self.find_stop() {
                self.held.truncate(start);
            }
        }
        self.held
    }

    /// Moves complete characters to `held`. Invalid UTF-8 becomes U+FFFD by the rule of `String::from_utf8_lossy`: one for
    /// each maximal prefix of a character.
    fn decode(&mut self, bytes: &[u8]) {
        self.unfinished.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.unfinished);
        let mut rest = all.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => return self.held.push_str(text),
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.held.push_str(std::str::from_utf8(good).expect("checked by from_utf8"));
                    match error.error_len() {
                        None => return self.unfinished.extend_from_slice(bad),
                        Some(len) => {
                            self.held.push(char::REPLACEMENT_CHARACTER);
                            rest = &bad[len..];
                        }
                    }
                }
            }
        }
    }

    /// Finds the stop string in `held` that is completed first: its offset, and its index in `stop`.
    fn find_stop(&self) -> Option<(usize, usize)> {
        let found = self.stop.iter().enumerate().filter_map(|(i, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, i))
        });
        found.min().map(|(_, start, i)| (start, i))
    }

    /// Length in bytes of the longest suffix of `held` that is a prefix of a stop string. It starts at a character
    /// boundary, since the stop string does.
    fn longest_stop_prefix(&self) -> usize {
        let held = self.held.as_bytes();
        let prefix = |stop: &String| {
            let stop = stop.as_bytes();
            let longest = held.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&n| held.ends_with(&stop[..n])).unwrap_or(0)
        };
        self.stop.iter().map(prefix).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(stop: &[&str]) -> Vec<String> {
        stop.iter().map(|s| s.to_string()).collect()
    }

    /// Pushes pieces and returns all text. That no character is split needs no check, since `text` is a `String`.
    fn assemble(stop: &[String], pieces: &[&[u8]]) -> (String, Option<String>) {
        let mut assembler = TextAssembler::new(stop);
        let mut text = String::new();
        for piece in pieces {
            let got = assembler.push(piece);
            text += &got.text;
            if got.stop.is_some() {
                assert_eq!(assembler.push(b"more"), Assembled::default(), "nothing comes after a stop string");
                assert_eq!(assembler.finish(), "");
                return (text, got.stop);
            }
        }
        (text + &assembler.finish(), None)
    }

    #[test]
    fn characters_are_complete_and_released_at_once() {
        let mut assembler = TextAssembler::new(&[]);
        let euro = "€".as_bytes();
        assert_eq!(assembler.push(b"a").text, "a");
        assert_eq!(assembler.push(&euro[..1]).text, "");
        assert_eq!(assembler.push(&euro[1..2]).text, "");
        assert_eq!(assembler.push(&[euro[2], b'b']).text, "€b");
        assert_eq!(assembler.push(&[0xff, b'c', 0xe2, 0x82]).text, "\u{fffd}c");
        assert_eq!(assembler.push(b"d").text, "\u{fffd}d");
        assert_eq!(assembler.push(&euro[..2]).text, "");
        assert_eq!(assembler.finish(), "\u{fffd}");
    }

    #[test]
    fn a_stop_string_is_held_back_and_released() {
        let mut assembler = TextAssembler::new(&strings(&["</s>", "\n\nUser:"]));
        assert_eq!(assembler.push(b"Hi <").text, "Hi ");
        assert_eq!(assembler.push(b"/").text, "");
        assert_eq!(assembler.push(b"b>\n").text, "</b>");
        assert_eq!(assembler.push(b"\n").text, "");
        assert_eq!(assembler.push(b"\nUse").text, "\n");
        let last = assembler.push(b"r: x");
        assert_eq!(last, Assembled { text: String::new(), stop: Some("\n\nUser:".into()) });
    }

    #[test]
    fn the_first_completed_stop_string_wins_then_the_longest() {
        assert_eq!(assemble(&strings(&["abc", "b"]), &[b"xabc"]), ("xa".into(), Some("b".into())));
        assert_eq!(assemble(&strings(&["c", "abc"]), &[b"xab", b"c"]), ("x".into(), Some("abc".into())));
        assert_eq!(assemble(&strings(&["aab"]), &[b"a", b"a", b"a", b"b"]), ("a".into(), Some("aab".into())));
        assert_eq!(assemble(&strings(&["", "é"]), &[b"x\xc3", b"\xa9y"]), ("x".into(), Some("é".into())));
    }

    /// Reference: tests every stop string after each character of the whole text.
    fn naive(stop: &[String], bytes: &[u8]) -> (String, Option<String>) {
        let whole = String::from_utf8_lossy(bytes).into_owned();
        let ends = whole.char_indices().map(|(i, c)| i + c.len_utf8());
        for end in ends {
            let completed = stop.iter().filter(|s| !s.is_empty() && whole[..end].ends_with(s.as_str()));
            if let Some(stop) = completed.max_by_key(|s| s.len()) {
                return (whole[..end - stop.len()].to_string(), Some(stop.clone()));
            }
        }
        (whole, None)
    }

    #[test]
    fn the_result_does_not_depend_on_token_boundaries() {
        let mut random = oorandom::Rand32::new(11);
        let alphabet: [&[u8]; 8] =
            [b"a", b"b", b"ab", "é".as_bytes(), "€".as_bytes(), "🦀".as_bytes(), b"\xff", b"\xe2\x82"];
        let mut stopped = 0;
        for _ in 0..20_000 {
            let mut word = |most: u32, kinds: u32| -> Vec<u8> {
                (0..random.rand_range(0..most))
                    .flat_map(|_| alphabet[random.rand_range(0..kinds) as usize])
                    .copied()
                    .collect()
            };
            let bytes = word(24, 8);
            let stop: Vec<String> =
                (0..3).map(|_| String::from_utf8(word(5, 6)).expect("the first six are characters")).collect();
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(random.rand_range(0..rest.len() as u32 + 1).min(4) as usize);
                pieces.push(piece);
                rest = after;
            }
            let expected = naive(&stop, &bytes);
            stopped += usize::from(expected.1.is_some());
            assert_eq!(assemble(&stop, &pieces), expected, "stop {stop:?}, pieces {pieces:?}");
        }
        assert!((4_000..19_000).contains(&stopped), "{stopped} of 20000 ended at a stop string");
    }

    #[test]
    fn a_long_stream_is_released_as_it_comes() {
        let mut assembler = TextAssembler::new(&strings(&["STOP", "aaaaaaaab"]));
        let mut released = 0;
        for i in 0..100_000 {
            released += assembler.push(b"a").text.len();
            assert!(i + 1 - released <= 8, "{} held back", i + 1 - released);
        }
    }
}
