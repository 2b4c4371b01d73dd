// The form of every other block type, 12 words for 32 columns: 32 levels, the scales of both halves, their offsets.
const APART = true;
const HALVES = false;
const OFFSET = true;

fn read_group(row: u32, group: u32) -> Group {
    let at = row + group * 12u;
    let facts = bitcast<vec4<f32>>(four_words(at + 8u));
    return Group(four_words(at), four_words(at + 4u), facts.xy, vec2<i32>(1), facts.zw);
}
