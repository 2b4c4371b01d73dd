//! Scans over logits, one per vocabulary entry. Here and not beside the sampler, since this crate is compiled for speed, which
//! vectorises such loops.

/// Values scanned per step.
pub const RUN: usize = 128;

/// Index of the first value not < `bound`; NaN counts.
#[inline(never)]
pub fn first_not_below(values: &[f32], bound: f32) -> Option<usize> {
    let below = |values: &[f32]| values.iter().fold(true, |below, value| below & (*value < bound));
    let run = values.chunks(RUN).position(|run| !below(run))? * RUN;
    values[run..].iter().position(|value| !below(&[*value])).map(|at| run + at)
}

/// Whether any value is above `bound`.
#[inline(never)]
pub fn any_above(values: &[f32], bound: f32) -> bool {
    values.iter().fold(false, |any, value| any | (*value > bound))
}

/// The largest value; negative infinity if empty.
#[inline(never)]
pub fn largest(values: &[f32]) -> f32 {
    /// Independent lanes, for vectorisation: the order does not affect a maximum.
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (lanes, rest) = values.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for lanes in lanes {
        for (largest, value) in largest.iter_mut().zip(lanes) {
            *largest = larger(*largest, *value);
        }
    }
    largest.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_plain_loop_finds() {
        for length in [0, 1, 15, 16, 127, 128, 129, 1000] {
            for at in [0, 14, 16, 127, 128, 500, 999].into_iter().filter(|&at| at < length) {
                let mut values: Vec<f32> = (0..length).map(|index| -1.0 - (index % 7) as f32).collect();
                assert_eq!(first_not_below(&values, 0.0), None);
                assert!(!any_above(&values, -1.0) && any_above(&values, -1.5));
                assert_eq!(largest(&values), -1.0);
                for odd in [0.0, 3.0, f32::INFINITY, f32::NAN] {
                    values[at] = odd;
                    assert_eq!(first_not_below(&values, 0.0), Some(at), "{odd} at {at} of {length}");
                    assert_eq!(any_above(&values, -1.0), !odd.is_nan());
                    if !odd.is_nan() {
                        assert_eq!(largest(&values), odd);
                    }
                }
            }
        }
        assert_eq!(largest(&[]), f32::NEG_INFINITY);
        assert_eq!(largest(&[f32::NEG_INFINITY; 20]), f32::NEG_INFINITY);
    }
}
