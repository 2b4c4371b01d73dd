const STRIDE = 4u;

// Four columns.
fn embed(weight_row: u32, four: u32, out_row: u32) {
    let read = read_weights(weight_row, 4u * four);
    for (var i = 0u; i < 4u && 4u * four + i < params.columns; i++) {
        out[out_row + 4u * four + i] = params.scale * read[i];
    }
}
