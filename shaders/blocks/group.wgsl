// 32 weights: column i of half h is scale[h] * multipliers[h] * level + offset[h]. Levels are signed bytes, four a word. Twin:
// `Group` of runtime/compute/src/quant. A block type's file says which of it products have to look at: APART, each half has a
// scale and an offset of its own; HALVES, each has a multiplier; OFFSET, there are offsets.
struct Group {
    first: vec4<u32>,
    second: vec4<u32>,
    scale: vec2<f32>,
    multipliers: vec2<i32>,
    offset: vec2<f32>,
}

// Subtracts the same level from four: none of the bytes borrows, since each has its upper bit set beforehand.
fn minus(levels: vec4<u32>, zero: u32) -> vec4<u32> {
    return ((levels | vec4<u32>(0x80808080u)) - vec4<u32>(zero)) ^ vec4<u32>(0x80808080u);
}
