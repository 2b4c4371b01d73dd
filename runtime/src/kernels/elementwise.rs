//! Interim: a plain scalar form that the vector kernels replace.
#![allow(missing_docs)]
use super::Kernels;
use super::threads::Threads;
pub enum RopeKind {
    Normal,
    Neox,
}
pub fn rms_norm(_k: &Kernels, _t: &Threads, x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let n = w.len();
    for (x, o) in x.chunks(n).zip(out.chunks_mut(n)) {
        let ms: f64 = x.iter().map(|v| (*v as f64) * (*v as f64)).sum::<f64>() / n as f64;
        let r = 1.0 / ((ms as f32) + eps).sqrt();
        for i in 0..n {
            o[i] = x[i] * r * w[i];
        }
    }
}
pub fn silu_mul(_k: &Kernels, _t: &Threads, g: &[f32], u: &[f32], o: &mut [f32]) {
    for i in 0..g.len() {
        o[i] = g[i] / (1.0 + (-g[i]).exp()) * u[i];
    }
}
pub fn gelu_mul(_k: &Kernels, _t: &Threads, _g: &[f32], _u: &[f32], _o: &mut [f32]) {
    panic!()
}
pub fn rope(
    _k: &Kernels,
    _t: &Threads,
    _kind: RopeKind,
    x: &mut [f32],
    heads: usize,
    d: usize,
    n_rot: usize,
    cs: &[f32],
) {
    for (row, cs) in x.chunks_mut(heads * d).zip(cs.chunks(n_rot)) {
        for h in row.chunks_mut(d) {
            for i in 0..n_rot / 2 {
                let (a, b) = (h[2 * i], h[2 * i + 1]);
                h[2 * i] = a * cs[i] - b * cs[n_rot / 2 + i];
                h[2 * i + 1] = a * cs[n_rot / 2 + i] + b * cs[i];
            }
        }
    }
}
