// The shape of products for a prompt's tokens on adapters with cooperative matrices: a workgroup of eight subgroups has ROWS rows and
// TOKENS tokens, a subgroup ROW_TILES x TOKEN_TILES matrices of SIZE x SIZE of them, with ACROSS subgroups one below the other. COLUMNS
// columns at a time are laid out in the workgroup's memory as f16. An element is added up by the same operations in the same order
// wherever in a tile it lies, so its bits do not depend on the number of tokens. But they are not those of lanes.wgsl and tile.wgsl,
// whose order no matrix follows: a row has one shape or the other for what it is (`lanes` in common.wgsl).

// Vectors of a row; two more than there are columns for, so that rows begin in different banks.
const STRIDE = COLUMNS / 4u + 2u;
const SUBGROUPS = 8u;
// The largest f16.
const LARGEST = vec4<f32>(65504.0);

var<workgroup> weight_halves: array<vec4<f16>, ROWS * STRIDE>;
var<workgroup> token_halves: array<vec4<f16>, TOKENS * STRIDE>;
// A matrix of results of each subgroup.
var<workgroup> results: array<f32, SUBGROUPS * SIZE * SIZE>;

fn halves(values: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(values, -LARGEST, LARGEST));
}
