// What products share: up to three matrices are multiplied with the same activations in one dispatch, workgroups in the order of the
// matrices. Each has a part of this text of its own (its reader, `result.wgsl`, and one of the shapes: `matmul.wgsl` for a few
// tokens, `matmul_tile.wgsl` for a prompt's, `matmul_plain.wgsl`), in which MATRIX is its place.
//
// Every shape adds in the same order, so an element is the same bits however many tokens are multiplied together: a row's groups
// are cut into units (UNIT groups, 32 bytes of weights where types allow) and units are dealt to LANES chains in turn. Within a chain
// groups are added first to last, then chains first to last. LANES depends on columns and form alone.

struct Of {
    // Rows of the weight, and a row's words.
    rows: u32,
    row_words: u32,
    // The first of these rows in the output, and the output's columns.
    first: u32,
    out_columns: u32,
    // Add to what the output holds; add the bias; multiply by the factor first, or bias and all.
    add: u32,
    bias: u32,
    factor: f32,
    factor_covers_bias: u32,
}

struct Params {
    wanted_only: u32,
    columns: u32,
    unused_1: u32,
    unused_2: u32,
    matrices: array<Of, 3>,
}

@group(0) @binding(0) var<uniform> params: Params;
