// Merges the segments of attention that was split over the context, first to last, as attend.wgsl does where it has them all. One
// workgroup a row and head, as int8 or not.

@group(0) @binding(2) var<storage, read> split: array<f32>;
@group(0) @binding(3) var<storage, read> sinks: array<f32>;

const SEGMENT = 256u;

// A column of the result.
fn merged(place: u32, column: u32, first: u32, last: u32) -> f32 {
    var most = LEAST;
    var sum = 0.0;
    var value = 0.0;
    for (var segment = first; segment <= last; segment++) {
        let at = (place * params.segments + segment % params.segments) * (VALUE_DIM + 2u);
        let own = split[at + VALUE_DIM];
        let larger = max(most, own);
        let factor = relative(own, larger);
        let before = relative(most, larger);
        value = fma(split[at + column], factor, value * before);
        sum = fma(split[at + VALUE_DIM + 1u], factor, sum * before);
        most = larger;
    }
    return last_value(value, most, sum, place % params.heads);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let place = linear(at, count);
    let row = place / params.heads;
    if (row >= step.tokens) {
        return;
    }
    let position = step.data[step.positions + row];
    write(thread, place, first_seen(position) / SEGMENT, position / SEGMENT);
}
