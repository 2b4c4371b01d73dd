// MXFP4, a block in five words: half of the scale in f32, 16 bytes of nibbles, low ones first. Levels are `CODES` of quant/fp4.rs.
const APART = false;
const HALVES = false;
const OFFSET = false;

const CODES = vec4<u32>(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 5u;
    return coded_group(four_words(at + 1u), CODES, bitcast<f32>(word(at)));
}
