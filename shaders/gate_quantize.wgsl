// activation(gate) * up as int8, by the rule of levels.wgsl; one thread four columns. GATED is false where there is no `up`.

struct Params {
    wanted_only: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> quantized: array<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let four = linear(at, count) * THREADS + thread;
    let inside = four < rows(params.wanted_only) * (params.columns / 4u);
    var value = vec4<f32>(0.0);
    if (inside) {
        let x = gate[four];
        value = vec4<f32>(activated(x.x), activated(x.y), activated(x.z), activated(x.w));
        if (GATED) {
            value *= up[four];
        }
    }
    write_levels(thread, four, inside, value);
}
