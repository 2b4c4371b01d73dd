//! Interim: a plain scalar form that the vector kernels replace.
#![allow(missing_docs)]
use super::Kernels;
use super::threads::Threads;
use half::f16;
pub const PAGE_TOKENS: usize = 64;
pub struct Query<'a> {
    pub pages: &'a [&'a [f16]],
    pub visible: usize,
    pub window: Option<usize>,
}
pub struct AttentionShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    pub softcap: Option<f32>,
}
pub fn store_kv(_k: &Kernels, s: &AttentionShape, page: &mut [f16], slot: usize, key: &[f32], value: &[f32]) {
    let d = s.head_dim;
    let half = s.kv_heads * PAGE_TOKENS * d;
    for h in 0..s.kv_heads {
        for i in 0..d {
            page[(h * PAGE_TOKENS + slot) * d + i] = f16::from_f32(key[h * d + i]);
            page[half + (h * PAGE_TOKENS + slot) * d + i] = f16::from_f32(value[h * d + i]);
        }
    }
}
pub fn attention(_k: &Kernels, _t: &Threads, s: &AttentionShape, q: &[f32], queries: &[Query<'_>], out: &mut [f32]) {
    let d = s.head_dim;
    let half = s.kv_heads * PAGE_TOKENS * d;
    let g = s.heads / s.kv_heads;
    for (t, query) in queries.iter().enumerate() {
        for h in 0..s.heads {
            let qv = &q[(t * s.heads + h) * d..][..d];
            let kvh = h / g;
            let scores: Vec<f32> = (0..query.visible)
                .map(|p| {
                    let k = &query.pages[p / 64][(kvh * 64 + p % 64) * d..][..d];
                    qv.iter().zip(k).map(|(a, b)| a * b.to_f32()).sum::<f32>() * s.scale
                })
                .collect();
            let m = scores.iter().cloned().fold(f32::NEG_INFINITY, f32::max);
            let e: Vec<f32> = scores.iter().map(|x| (x - m).exp()).collect();
            let sum: f32 = e.iter().sum();
            let o = &mut out[(t * s.heads + h) * d..][..d];
            o.fill(0.0);
            for p in 0..query.visible {
                let v = &query.pages[p / 64][half + (kvh * 64 + p % 64) * d..][..d];
                for i in 0..d {
                    o[i] += e[p] / sum * v[i].to_f32();
                }
            }
        }
    }
}
