// The fifth bits of 16 columns, each at its level's bit 4.
fn fifths(bits: u32) -> vec4<u32> {
    let four = (vec4<u32>(bits) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    // Bit n of four goes to bit 8 n: multiplying makes copies, of which the mask keeps one a byte.
    return ((four * 0x00204081u) & vec4<u32>(0x01010101u)) << vec4<u32>(4u);
}
