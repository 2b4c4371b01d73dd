//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: the range of 32 values divided evenly, no search.
//!
//! The `_0` types have one more level below zero than above. The value farthest from zero gets that level, so the scale is
//! negative if that value is positive.

use super::{inverse, put_f16};

const GROUP: usize = 32;

pub(super) fn q8_0(values: &[f32; GROUP], block: &mut [u8]) {
    let scale = farthest(values).abs() / 127.0;
    put_f16(block, 0, scale);
    let inverse = inverse(scale);
    for (level, &value) in block[2..].iter_mut().zip(values) {
        // Halves away from zero, as other writers of this type round: `as` truncates.
        let scaled = value * inverse;
        *level = ((scaled + 0.5f32.copysign(scaled)) as i8).cast_unsigned();
    }
}

pub(super) fn q4_0(values: &[f32; GROUP], block: &mut [u8]) {
    let levels = symmetric::<8>(values, block);
    nibbles(&levels, &mut block[2..]);
}

/// Q4_0 with the scale that fits best of a few, for rows that nobody else reads: `q4_0` gives the bytes that other writers give.
///
/// Clipping the farthest values makes all others finer. Each try clips further; for the levels it gives, the best scale is
/// `mixed / second`, which reduces the squared error by `mixed² / second`.
pub(super) fn q4_0_fitted(values: &[f32; GROUP], block: &mut [u8]) {
    const TRIES: [f32; 4] = [1.0, 0.92, 0.84, 0.76];
    let mut best = ([8; GROUP], 0.0, 0.0);
    for share in TRIES {
        let inverse = inverse(farthest(values) * share / -8.0);
        let levels = values.map(|value| (value * inverse + 8.5).clamp(0.0, 15.0) as u8);
        // By lanes, which the compiler turns into vectors.
        let (mut mixed, mut second) = ([0.0f32; 8], [0.0f32; 8]);
        for (values, levels) in values.as_chunks::<8>().0.iter().zip(levels.as_chunks::<8>().0) {
            for at in 0..8 {
                let level = f32::from(levels[at]) - 8.0;
                mixed[at] += values[at] * level;
                second[at] += level * level;
            }
        }
        let (mixed, second): (f32, f32) = (mixed.iter().sum(), second.iter().sum());
        let scale = if second > 0.0 { mixed / second } else { 0.0 };
        if scale * mixed > best.1 {
            best = (levels, scale * mixed, scale);
        }
    }
    put_f16(block, 0, best.2);
    nibbles(&best.0, &mut block[2..]);
}

pub(super) fn q5_0(values: &[f32; GROUP], block: &mut [u8]) {
    let levels = symmetric::<16>(values, block);
    fifth_bits(&levels, &mut block[2..6]);
    nibbles(&levels, &mut block[6..]);
}

pub(super) fn q4_1(values: &[f32; GROUP], block: &mut [u8]) {
    let levels = affine::<15>(values, block);
    nibbles(&levels, &mut block[4..]);
}

pub(super) fn q5_1(values: &[f32; GROUP], block: &mut [u8]) {
    let levels = affine::<31>(values, block);
    fifth_bits(&levels, &mut block[4..8]);
    nibbles(&levels, &mut block[8..]);
}

/// Levels 0 to 2·`HALF` − 1 with zero point `HALF`; writes the scale at the block's start.
fn symmetric<const HALF: u8>(values: &[f32; GROUP], block: &mut [u8]) -> [u8; GROUP] {
    let half = f32::from(HALF);
    let scale = farthest(values) / -half;
    put_f16(block, 0, scale);
    let inverse = inverse(scale);
    // No value is below level 0, so truncating after adding a half rounds.
    values.map(|value| ((value * inverse + half + 0.5) as u8).min(2 * HALF - 1))
}

/// Levels 0 to `TOP` over the range of the values; writes scale and minimum at the block's start.
fn affine<const TOP: u8>(values: &[f32; GROUP], block: &mut [u8]) -> [u8; GROUP] {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (high - low) / f32::from(TOP);
    put_f16(block, 0, scale);
    put_f16(block, 2, low);
    let inverse = inverse(scale);
    values.map(|value| (((value - low) * inverse + 0.5) as u8).min(TOP))
}

/// The value farthest from zero, the first on ties.
pub(super) fn farthest(values: &[f32]) -> f32 {
    values.iter().copied().fold(0.0, |best: f32, value| if value.abs() > best.abs() { value } else { best })
}

/// Packs 32 levels into 16 bytes: the first half in the low nibbles, the second in the high ones. Drops a fifth bit.
pub(super) fn nibbles(levels: &[u8; GROUP], out: &mut [u8]) {
    for (column, byte) in out.iter_mut().enumerate() {
        *byte = (levels[column] & 15) | (levels[column + 16] & 15) << 4;
    }
}

fn fifth_bits(levels: &[u8; GROUP], out: &mut [u8]) {
    let word = levels.iter().enumerate().fold(0u32, |word, (column, &level)| word | u32::from(level >> 4) << column);
    out.copy_from_slice(&word.to_le_bytes());
}
