// Four F32 weights.
fn read_weights(row: u32, column: u32) -> vec4<f32> {
    let at = row + column;
    return bitcast<vec4<f32>>(vec4<u32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]));
}
