// Four columns of a token's activations; those behind the last are 0.
fn read_x(token: u32, column: u32) -> vec4<f32> {
    let start = token * params.columns + column;
    if (column + 4u <= params.columns) {
        return vec4<f32>(x[start], x[start + 1u], x[start + 2u], x[start + 3u]);
    }
    var four = vec4<f32>(0.0);
    for (var i = 0u; column + i < params.columns; i++) {
        four[i] = x[start + i];
    }
    return four;
}
