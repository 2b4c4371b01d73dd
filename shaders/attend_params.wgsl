// What attend.wgsl and attend_merge.wgsl share: parameters, and how sums of different largest scores are put together.

struct Params {
    group: u32,
    heads: u32,
    kv_heads: u32,
    // 0: everything before is seen; 1: the last `window` positions; 2: one's own chunk of as many.
    window_kind: u32,
    window: u32,
    sinks: u32,
    scale: f32,
    // 0: no cap.
    softcap: f32,
    // Behind the sinks, or where they would be, is for each head what a score loses per position of distance.
    slopes: u32,
    // Segments for which a row's head has room where they are split; those that a window has passed are written over.
    segments: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// Less than any score, and finite: differences of it are numbers.
const LEAST = -3.0e38;

// exp(a - b), and 1 where nothing changes.
fn relative(a: f32, b: f32) -> f32 {
    return select(exp(a - b), 1.0, a == b);
}

// The first position that a row sees.
fn first_seen(position: u32) -> u32 {
    if (params.window_kind == 1u) {
        return position + 1u - min(position + 1u, params.window);
    }
    if (params.window_kind == 2u) {
        return position / params.window * params.window;
    }
    return 0u;
}
