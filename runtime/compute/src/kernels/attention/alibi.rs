//! Slopes of attention with linear biases (Press et al., "Train Short, Test Long"): a geometric sequence over the heads, so that
//! some look at their neighbourhood and others far back.
//!
//! The paper defines them for power-of-two head counts. Otherwise the next lower power of two provides the first slopes, and the
//! remaining heads take every second slope of the next higher one.

/// Per head, what a score loses per position of distance.
pub fn slopes(heads: usize, max_bias: f32) -> Vec<f32> {
    let even = 1 << heads.ilog2();
    let slope = |head: usize| {
        let steps = if head < even { (head + 1) as f64 } else { (head - even) as f64 + 0.5 };
        // Computed in f64 and rounded, so that the platform's math library does not affect the result.
        (-f64::from(max_bias) * steps / even as f64).exp2() as f32
    };
    (0..heads).map(slope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_the_papers() {
        assert_eq!(slopes(8, 8.0), [1, 2, 3, 4, 5, 6, 7, 8].map(|power| 0.5f32.powi(power)));
        assert_eq!(slopes(1, 8.0), [0.5f32.powi(8)]);
        let quarter = 0.25f32;
        assert_eq!(slopes(6, 8.0), [quarter, quarter.powi(2), quarter.powi(3), quarter.powi(4), 0.5, 0.125]);
        assert_eq!(slopes(2, 0.0), [1.0, 1.0]);
    }
}
