// Four BF16 weights: the upper halves of f32.
fn read_weights(row: u32, column: u32) -> vec4<f32> {
    let at = row + column / 2u;
    let a = weights[at];
    let b = weights[at + 1u];
    return bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}
