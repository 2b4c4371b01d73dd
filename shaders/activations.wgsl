// Activation functions. FUNCTION says which, in the order of `Activation::ALL` of runtime/gpu.
// Twin: `activated` of kernels/scalar/elementwise.rs.

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-x));
}

// Built-in tanh may overflow for large values.
fn safe_tanh(x: f32) -> f32 {
    return tanh(clamp(x, -15.0, 15.0));
}

// erfc(z) for z >= 0, as in kernels/elementwise/functions.rs.
fn erfc(z: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.5 * z);
    var p = -0.059068964;
    p = fma(p, t, 0.28457497);
    p = fma(p, t, -0.48719988);
    p = fma(p, t, 0.2780671);
    p = fma(p, t, -0.02662562);
    p = fma(p, t, 0.20268685);
    p = fma(p, t, 0.24310377);
    p = fma(p, t, 0.2823753);
    p = fma(p, t, 0.28208643);
    return exp(-z * z) * t * p;
}

fn activated(x: f32) -> f32 {
    let positive = max(x, 0.0);
    switch FUNCTION {
        case 0u: { return x / (1.0 + exp(-x)); }
        case 1u: { return 0.5 * x * (1.0 + safe_tanh(0.7978846 * (x + 0.044715 * x * x * x))); }
        case 2u: { return positive - 0.5 * abs(x) * erfc(abs(x) * 0.70710677); }
        case 3u: { return x * sigmoid(1.702 * x); }
        case 4u: { return positive; }
        case 5u: { return positive * positive; }
        case 6u: { return sigmoid(x); }
        case 7u: { return safe_tanh(x); }
        default: { return positive + log(1.0 + exp(-abs(x))); }
    }
}
