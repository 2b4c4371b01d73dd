//! Interim: rotations computed at each use.
use crate::kernels::elementwise::RopeKind;
use crate::model::rope::{Rope, RopePairs};
#[derive(Default)]
pub(super) struct Rotations {
    positions: Vec<usize>,
    rows: Vec<f32>,
}
pub(super) fn kind(p: RopePairs) -> RopeKind {
    match p {
        RopePairs::Adjacent => RopeKind::Normal,
        RopePairs::Halves => RopeKind::Neox,
    }
}
impl Rotations {
    pub(super) fn begin(&mut self, p: &[usize]) {
        self.positions = p.to_vec();
    }
    pub(super) fn rows(&mut self, r: &Rope) -> &[f32] {
        self.rows.clear();
        for &p in &self.positions {
            let f = |i: usize| {
                let t = p as f32 * r.base.powf(-2.0 * i as f32 / r.dimensions as f32);
                t / r.factors.as_ref().map_or(1.0, |f| f[i])
            };
            for i in 0..r.dimensions / 2 {
                self.rows.push(f(i).cos());
            }
            for i in 0..r.dimensions / 2 {
                self.rows.push(f(i).sin());
            }
        }
        &self.rows
    }
}
