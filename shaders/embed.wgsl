// Rows of the token table by the tokens of a step's rows. One thread STRIDE columns. `blocks/TYPE.wgsl` or `plain/TYPE.wgsl` is put
// before it. Twin: `dequantize_row` of quant, but for the last bit where a type has offsets.

struct Params {
    columns: u32,
    row_words: u32,
    // The tokens whose rows are in this buffer: the first, and how many.
    first: u32,
    count: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = linear(at, count) * 64u + thread;
    let parts = (params.columns + STRIDE - 1u) / STRIDE;
    let row = index / parts;
    if (row >= step.tokens) {
        return;
    }
    // A row that is no token's was written before.
    let token = tokens[row];
    if (token < params.first || token - params.first >= params.count) {
        return;
    }
    embed((token - params.first) * params.row_words, index % parts, row * params.columns);
}
