// Group `part` of a unit. PAIRED: a unit is two groups two apart, which share their bytes.
fn group_of(unit: u32, part: u32) -> u32 {
    if (PAIRED) {
        return unit / 4u * 8u + unit % 4u / 2u * 4u + unit % 2u + 2u * part;
    }
    return unit * UNIT + part;
}

// Adds the products of a group's halves with a token's levels to a sum. `facts` are the token's: scale, multipliers of the halves,
// sum, sum of the first half (`levels.wgsl`).
fn add_group(sum: f32, group: Group, products: vec2<i32>, facts: vec4<u32>) -> f32 {
    let scale = bitcast<f32>(facts.x);
    let weighted = products * vec2<i32>(i32(facts.y & 255u), i32(facts.y >> 8u));
    var total = sum;
    if (APART) {
        let half = bitcast<f32>(facts.w);
        total = fma(group.scale.x * scale, f32(weighted.x), total);
        total = fma(group.offset.x, half, total);
        total = fma(group.scale.y * scale, f32(weighted.y), total);
        total = fma(group.offset.y, bitcast<f32>(facts.z) - half, total);
    } else if (HALVES) {
        let both = weighted * group.multipliers;
        total = fma(group.scale.x * scale, f32(both.x + both.y), total);
    } else {
        total = fma(group.scale.x * scale, f32(weighted.x + weighted.y), total);
        if (OFFSET) {
            total = fma(group.offset.x, bitcast<f32>(facts.z), total);
        }
    }
    return total;
}
