// Four F16 weights.
fn read_weights(row: u32, column: u32) -> vec4<f32> {
    let at = row + column / 2u;
    return vec4<f32>(unpack2x16float(weights[at]), unpack2x16float(weights[at + 1u]));
}
