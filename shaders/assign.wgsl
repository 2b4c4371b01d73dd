// Sorts pairs of a row and one of its experts by expert, and cuts each expert's pairs into tiles of up to TOKENS, which are
// multiplied together. One workgroup for all rows. Twin: `sort` of kernels/experts/buffers.rs.
//
// `shares` is the number of tiles, every pair in order of its expert, and for each tile its expert, its first place in that order
// and its pairs. In which order an expert's pairs stand changes no result: each is a sum of its own.

struct Params {
    wanted_only: u32,
    // Without routes, the expert is the number of the pair in its row.
    routed: u32,
    experts: u32,
    used: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> routes: array<f32>;
@group(0) @binding(3) var<storage, read_write> shares: array<u32>;

const THREADS = 64u;
// `MOST_EXPERTS` of runtime/gpu.
const EXPERTS = 1024u;

// The pairs of each expert, then the place of its next one.
var<workgroup> counts: array<atomic<u32>, EXPERTS>;

fn expert_of(pair: u32) -> u32 {
    let slot = pair % params.used;
    if (params.routed == 0u) {
        return slot;
    }
    return u32(routes[2u * (pair - slot) + slot]);
}

fn set_tile(pairs: u32, tile: u32, expert: u32, first: u32, count: u32) {
    let at = 1u + pairs + 3u * tile;
    shares[at] = expert;
    shares[at + 1u] = first;
    shares[at + 2u] = count;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    let pairs = rows(params.wanted_only) * params.used;
    if (TOKENS == 1u) {
        for (var pair = thread; pair < pairs; pair += THREADS) {
            shares[1u + pair] = pair;
            set_tile(pairs, pair, expert_of(pair), pair, 1u);
        }
        if (thread == 0u) {
            shares[0] = pairs;
        }
        return;
    }
    for (var i = thread; i < params.experts; i += THREADS) {
        atomicStore(&counts[i], 0u);
    }
    workgroupBarrier();
    for (var pair = thread; pair < pairs; pair += THREADS) {
        atomicAdd(&counts[expert_of(pair)], 1u);
    }
    workgroupBarrier();
    if (thread == 0u) {
        var tiles = 0u;
        var first = 0u;
        for (var expert = 0u; expert < params.experts; expert++) {
            let own = atomicLoad(&counts[expert]);
            atomicStore(&counts[expert], first);
            for (var begin = 0u; begin < own; begin += TOKENS) {
                set_tile(pairs, tiles, expert, first + begin, min(own - begin, TOKENS));
                tiles++;
            }
            first += own;
        }
        shares[0] = tiles;
    }
    workgroupBarrier();
    for (var pair = thread; pair < pairs; pair += THREADS) {
        let place = atomicAdd(&counts[expert_of(pair)], 1u);
        shares[1u + place] = pair;
    }
}
