//! Q2_K to Q6_K: a scale (and a minimum) for each group of 16 or 32 weights, stored as multiples of one f16 per block of 256.
//!
//! Scales are searched group by group and rounded to multiples of the largest; levels are chosen last, against the scales as a
//! reader will decode them.

use super::legacy::farthest;
use super::search::{Affine, Tries, affine, symmetric, symmetric_by_turns};
use super::{inverse, nearest, put_f16};

const BLOCK: usize = 256;

const Q2_K: Tries = Tries { top: 3.0, first: -0.5, step: 0.1, steps: 15, absolute: true };
const Q4_K: Tries = Tries { top: 15.0, first: -1.0, step: 0.1, steps: 20, absolute: false };
const Q5_K: Tries = Tries { top: 31.0, first: -0.5, step: 0.1, steps: 15, absolute: false };

pub(super) fn q2_k(values: &[f32; BLOCK], block: &mut [u8]) {
    let groups = groups::<16, 16>(values);
    let fits = groups.map(|group| affine(&group, &group.map(f32::abs), &Q2_K));
    let scales = whole(&fits.map(|fit| fit.scale), 15.0, block, 80);
    let minimums = whole(&fits.map(|fit| fit.minimum), 15.0, block, 82);
    let mut levels = [0; BLOCK];
    for (group, levels) in levels.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        block[group] = scales.levels[group] | minimums.levels[group] << 4;
        *levels = above(&groups[group], scales.value(group), minimums.value(group), Q2_K.top);
    }
    pairs(&levels, &mut block[16..80]);
}

pub(super) fn q3_k(values: &[f32; BLOCK], block: &mut [u8]) {
    let groups = groups::<16, 16>(values);
    let scales = signed::<32>(&groups.map(|group| symmetric_by_turns(&group, 4.0)), block, 108);
    block[96..108].fill(0);
    let mut levels = [0; BLOCK];
    for (group, levels) in levels.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = (scales.levels[group] + 32).cast_unsigned();
        block[96 + group % 8] |= (scale & 15) << (4 * (group / 8));
        block[104 + group % 4] |= (scale >> 4) << (2 * (group / 4));
        *levels = around(&groups[group], scales.value(group), 4.0);
    }
    pairs(&levels.map(|level| level & 3), &mut block[32..96]);
    upper_bits(&levels.map(|level| level >> 2), &mut block[..32]);
}

pub(super) fn q4_k(values: &[f32; BLOCK], block: &mut [u8]) {
    let levels = with_minimums(values, &Q4_K, block);
    k_nibbles(&levels, &mut block[16..144]);
}

pub(super) fn q5_k(values: &[f32; BLOCK], block: &mut [u8]) {
    let levels = with_minimums(values, &Q5_K, block);
    upper_bits(&levels.map(|level| level >> 4), &mut block[16..48]);
    k_nibbles(&levels.map(|level| level & 15), &mut block[48..176]);
}

pub(super) fn q6_k(values: &[f32; BLOCK], block: &mut [u8]) {
    let groups = groups::<16, 16>(values);
    let scales = signed::<128>(&groups.map(|group| symmetric(&group, 32.0)), block, 208);
    let mut levels = [0; BLOCK];
    for (group, levels) in levels.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        block[192 + group] = scales.levels[group].cast_unsigned();
        *levels = around(&groups[group], scales.value(group), 32.0);
    }
    // Half a block is four groups of 32. Its first two are the low nibbles of 64 bytes, the others the high ones; group n's upper
    // two bits are pair n of 32 bytes.
    for (half, levels) in levels.as_chunks::<128>().0.iter().enumerate() {
        for column in 0..64 {
            block[64 * half + column] = (levels[column] & 15) | (levels[column + 64] & 15) << 4;
        }
    }
    pairs(&levels.map(|level| level >> 4), &mut block[128..192]);
}

/// Writes scales and minimums of Q4_K and Q5_K to the block's first 16 bytes; returns the levels.
fn with_minimums(values: &[f32; BLOCK], tries: &Tries, block: &mut [u8]) -> [u8; BLOCK] {
    let groups = groups::<32, 8>(values);
    let fits: [Affine; 8] = groups.map(|group| {
        // Large weights count more, but every weight counts: distance from zero plus the group's root mean square.
        let square: f32 = group.iter().map(|value| value * value).sum();
        let typical = (square / 32.0).sqrt();
        affine(&group, &group.map(|value| typical + value.abs()), tries)
    });
    let scales = whole(&fits.map(|fit| fit.scale), 63.0, block, 0);
    let minimums = whole(&fits.map(|fit| fit.minimum), 63.0, block, 2);
    six_bits(&scales.levels, &minimums.levels, &mut block[4..16]);
    let mut levels = [0; BLOCK];
    for (group, levels) in levels.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        *levels = above(&groups[group], scales.value(group), minimums.value(group), tries.top);
    }
    levels
}

fn groups<const N: usize, const GROUPS: usize>(values: &[f32; BLOCK]) -> [[f32; N]; GROUPS] {
    std::array::from_fn(|group| std::array::from_fn(|at| values[N * group + at]))
}

/// Numbers as multiples of an f16 unit.
struct Multiples<L, const GROUPS: usize> {
    unit: f32,
    levels: [L; GROUPS],
}

impl<L: Copy + Into<f32>, const GROUPS: usize> Multiples<L, GROUPS> {
    /// The value a reader will decode.
    fn value(&self, group: usize) -> f32 {
        self.unit * self.levels[group].into()
    }
}

/// Non-negative numbers as multiples 0 to `top`; the unit is written at `offset`.
fn whole<const GROUPS: usize>(
    numbers: &[f32; GROUPS],
    top: f32,
    block: &mut [u8],
    offset: usize,
) -> Multiples<u8, GROUPS> {
    let most = numbers.iter().copied().fold(0.0, f32::max);
    let factor = top * inverse(most);
    let unit = put_f16(block, offset, most / top);
    Multiples { unit, levels: numbers.map(|number| nearest((factor * number).clamp(0.0, top)) as u8) }
}

/// Signed numbers as multiples −`HALF` to `HALF` − 1; the unit is written at `offset`.
fn signed<const HALF: u8>(numbers: &[f32; 16], block: &mut [u8], offset: usize) -> Multiples<i8, 16> {
    let half = f32::from(HALF);
    let farthest = farthest(numbers);
    let factor = -half * inverse(farthest);
    let unit = put_f16(block, offset, farthest / -half);
    Multiples { unit, levels: numbers.map(|number| nearest((factor * number).clamp(-half, half - 1.0)) as i8) }
}

/// Levels 0 to `top` of weights `scale · level − minimum`.
fn above<const N: usize>(values: &[f32; N], scale: f32, minimum: f32, top: f32) -> [u8; N] {
    let inverse = inverse(scale);
    values.map(|value| nearest(((value + minimum) * inverse).clamp(0.0, top)) as u8)
}

/// Levels −half to half − 1 of weights `scale · level`, stored unsigned.
fn around<const N: usize>(values: &[f32; N], scale: f32, half: f32) -> [u8; N] {
    let inverse = inverse(scale);
    values.map(|value| (nearest((value * inverse).clamp(-half, half - 1.0)) + half) as u8)
}

/// Four groups of 32 levels share 32 bytes, the first in the lowest bits.
fn pairs(levels: &[u8; BLOCK], out: &mut [u8]) {
    for (levels, out) in levels.as_chunks::<128>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for (column, byte) in out.iter_mut().enumerate() {
            *byte = (0..4).fold(0, |byte, group| byte | levels[32 * group + column] << (2 * group));
        }
    }
}

/// Two groups of 32 levels share 32 bytes: the even one has the low nibbles.
fn k_nibbles(levels: &[u8; BLOCK], out: &mut [u8]) {
    for (levels, out) in levels.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for (column, byte) in out.iter_mut().enumerate() {
            *byte = levels[column] | levels[column + 32] << 4;
        }
    }
}

/// One bit of each level: all eight groups of 32 share 32 bytes.
fn upper_bits(bits: &[u8; BLOCK], out: &mut [u8]) {
    for (column, byte) in out.iter_mut().enumerate() {
        *byte = (0..8).fold(0, |byte, group| byte | bits[32 * group + column] << group);
    }
}

/// Packs eight 6-bit scales and minimums into twelve bytes. The first four of each have a byte, whose upper two bits belong to
/// the last four; those keep their lower nibbles in the last four bytes, scale below minimum.
fn six_bits(scales: &[u8; 8], minimums: &[u8; 8], out: &mut [u8]) {
    for group in 0..4 {
        let (scale, minimum) = (scales[group + 4], minimums[group + 4]);
        out[group] = scales[group] | (scale >> 4) << 6;
        out[group + 4] = minimums[group] | (minimum >> 4) << 6;
        out[group + 8] = (scale & 15) | (minimum & 15) << 4;
    }
}
