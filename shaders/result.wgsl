// What becomes of a product. Multiplications that an addition follows are written as `fma`: whether a compiler joins them on its own
// may differ between shapes.
fn store(row: u32, token: u32, product: f32) {
    let place = token * params.matrices[MATRIX].out_columns + params.matrices[MATRIX].first + row;
    let factor = params.matrices[MATRIX].factor;
    var value = product;
    var after = 0.0;
    if (params.matrices[MATRIX].bias != 0u) {
        after = bias[params.matrices[MATRIX].first + row];
        if (params.matrices[MATRIX].factor_covers_bias != 0u) {
            value += after;
            after = 0.0;
        }
    }
    value = fma(value, factor, after);
    if (params.matrices[MATRIX].add != 0u) {
        value += out[place];
    }
    out[place] = value;
}
