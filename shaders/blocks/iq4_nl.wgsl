// IQ4_NL, a block in five words: the scale (two bytes of it unused), 16 bytes of nibbles, low ones first.
const APART = false;
const HALVES = false;
const OFFSET = false;

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 5u;
    return coded_group(four_words(at + 1u), CODES, unpack2x16float(word(at)).x);
}
