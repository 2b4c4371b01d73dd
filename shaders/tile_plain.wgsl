// The shape of plain products for a prompt's tokens, as tile.wgsl has it for block types. A unit's columns are laid out in the
// workgroup's memory so that a vector has the same column of four rows.
const SIDE = 64u;

// (column of a unit, four rows or tokens)
var<workgroup> weight_values: array<vec4<f32>, 16u * 16u>;
var<workgroup> token_values: array<vec4<f32>, 16u * 16u>;
