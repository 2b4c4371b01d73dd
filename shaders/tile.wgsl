// The shape of products for a prompt's tokens: a workgroup of 256 threads has 64 rows and 64 tokens, a thread four of each. A unit's
// levels are laid out in the workgroup's memory so that a vector has the same four columns of four rows.
const SIDE = 64u;

// (group of a unit, word of a group, four rows or tokens)
var<workgroup> weight_levels: array<vec4<u32>, 2u * 8u * 16u>;
var<workgroup> token_levels: array<vec4<u32>, 2u * 8u * 16u>;
// Scales and offsets of both halves, and their multipliers.
var<workgroup> weight_facts: array<vec4<f32>, 2u * SIDE>;
var<workgroup> weight_multipliers: array<vec2<i32>, 2u * SIDE>;
var<workgroup> token_facts: array<vec4<u32>, 2u * SIDE>;
