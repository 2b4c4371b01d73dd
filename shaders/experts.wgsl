// What the products of experts' quantised and plain weights share: a workgroup multiplies some rows of one expert's matrix with the
// pairs of a tile (assign.wgsl). LANES threads share a weight row; ROWS rows and TOKENS pairs are a thread's sums.

struct Params {
    wanted_only: u32,
    // Columns and rows of an expert's matrix; a row's words.
    columns: u32,
    rows: u32,
    row_words: u32,
    // The experts whose matrices are in this buffer: the first, and how many.
    first: u32,
    count: u32,
    // Experts of a row; x has a row for each of them instead of one for all.
    used: u32,
    x_of_pairs: u32,
    // Add to what the output holds; multiply by the expert's factor; add its bias.
    add: u32,
    factor: u32,
    bias: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read> shares: array<u32>;
@group(0) @binding(5) var<storage, read> factors: array<f32>;
@group(0) @binding(6) var<storage, read> bias: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;

const THREADS = 64u;
const ROWS = 2u;
const SUMS = ROWS * TOKENS;

// Every thread's sums.
var<workgroup> partial: array<f32, THREADS * SUMS>;

struct Tile {
    expert: u32,
    first: u32,
    pairs: u32,
}

// No pairs: there is no such tile, or its expert's matrix is in another buffer.
fn tile_at(index: u32) -> Tile {
    if (index >= shares[0]) {
        return Tile(0u, 0u, 0u);
    }
    let at = 1u + rows(params.wanted_only) * params.used + 3u * index;
    let expert = shares[at];
    let here = (expert >= params.first) & (expert - params.first < params.count);
    return Tile(expert, shares[at + 1u], select(0u, shares[at + 2u], here));
}

// A pair of a tile; those beyond its last are that one.
fn pair_of(tile: Tile, index: u32) -> u32 {
    return shares[1u + tile.first + min(index, tile.pairs - 1u)];
}

fn x_row(pair: u32) -> u32 {
    return select(pair / params.used, pair, params.x_of_pairs != 0u);
}

// Where a row of the expert's matrix begins; beyond the last row, that one, which is not stored again.
fn weight_row(tile: Tile, row: u32) -> u32 {
    return ((tile.expert - params.first) * params.rows + min(row, params.rows - 1u)) * params.row_words;
}

// Adds the sums of a row's threads pairwise and stores them, once every thread has written its own.
fn finish(thread: u32, row0: u32, tile: Tile) {
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
        if (row < params.rows && i % TOKENS < tile.pairs) {
            store(row, tile.expert, pair_of(tile, i % TOKENS), partial[i * THREADS + thread - lane]);
        }
    }
}

fn store(row: u32, expert: u32, pair: u32, product: f32) {
    let place = pair * params.rows + row;
    var value = product;
    if (params.factor != 0u) {
        value *= factors[expert];
    }
    if (params.bias != 0u) {
        value += bias[expert * params.rows + row];
    }
    if (params.add != 0u) {
        value += out[place];
    }
    out[place] = value;
}
