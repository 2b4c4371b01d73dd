// What the products of quantised and of plain weights share: parameters, buffers, and how a workgroup adds up and stores its sums.
// LANES threads share a weight row; ROWS rows and TOKENS tokens are a thread's sums.

struct Params {
    wanted_only: u32,
    // Columns and rows of the weight; a row's words.
    columns: u32,
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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> weights: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const THREADS = 64u;
const ROWS = 2u;
const SUMS = ROWS * TOKENS;

// Every thread's sums.
var<workgroup> partial: array<f32, THREADS * SUMS>;

// Adds the sums of a row's threads pairwise and stores them, once every thread has written its own.
fn finish(thread: u32, row0: u32, token0: u32, tokens: u32) {
    let lane = thread % LANES;
    workgroupBarrier();
    for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
        if (lane < reach) {
            for (var i = 0u; i < SUMS; i++) {
                partial[i * THREADS + thread] += partial[i * THREADS + thread + reach];
            }
        }
        workgroupBarrier();
    }
    for (var i = lane; i < SUMS; i += LANES) {
        let row = row0 + i / TOKENS;
        let token = token0 + i % TOKENS;
        if (row < params.rows && token < tokens) {
            store(row, token, partial[i * THREADS + thread - lane]);
        }
    }
}

fn store(row: u32, token: u32, product: f32) {
    let place = token * params.out_columns + params.first + row;
    var value = product;
    if (params.factor_covers_bias == 0u) {
        value *= params.factor;
    }
    if (params.bias != 0u) {
        value += bias[params.first + row];
    }
    if (params.factor_covers_bias != 0u) {
        value *= params.factor;
    }
    if (params.add != 0u) {
        value += out[place];
    }
    out[place] = value;
}
