// A column of attention's result, once all segments are summed: a head's sink is a score that has no value.
fn last_value(value: f32, most: f32, sum: f32, head: u32) -> f32 {
    if (params.sinks == 0u) {
        return value / sum;
    }
    let larger = max(most, sinks[head]);
    let factor = exp(most - larger);
    return value * factor / fma(sum, factor, exp(sinks[head] - larger));
}
