//! The shaders of experts: routing, the order in which pairs of a row and an expert are multiplied, and the products.

use super::{Form, LANES, TOKENS};

/// The most experts that a shader chooses among.
pub const MOST_EXPERTS: usize = 1024;
/// The most that a row uses, and the most groups.
pub const MOST_USED: usize = 64;

/// A shader of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the comment at the top of its file")]
pub enum ExpertsKernel {
    Route,
    /// The pairs that are multiplied together.
    Assign {
        tokens: u32,
    },
    /// As of `Matmul`.
    Product {
        form: Form,
        lanes: u32,
        tokens: u32,
    },
    Weigh,
    Mix,
    SwigluOai,
}

impl ExpertsKernel {
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Route, Self::Weigh, Self::Mix, Self::SwigluOai];
        all.extend(TOKENS.map(|tokens| Self::Assign { tokens }));
        for form in Form::ALL {
            for lanes in LANES {
                all.extend(TOKENS.map(|tokens| Self::Product { form, lanes, tokens }));
            }
        }
        all
    }

    pub(super) fn bindings(self) -> (u32, u32) {
        match self {
            Self::Assign { .. } => (1, 1),
            Self::Route | Self::Weigh | Self::Mix | Self::SwigluOai => (2, 1),
            Self::Product { .. } => (5, 1),
        }
    }

    /// Constants, and the files after `common.wgsl`.
    pub(super) fn parts(self) -> (String, Vec<&'static str>) {
        match self {
            Self::Route => (String::new(), vec![shader!("route")]),
            Self::Assign { tokens } => (format!("const TOKENS = {tokens}u;\n"), vec![shader!("assign")]),
            Self::Product { form, lanes, tokens } => {
                let body = if form.is_plain() {
                    vec![shader!("plain/activations"), shader!("experts_matmul_plain")]
                } else {
                    vec![shader!("blocks/units"), shader!("experts_matmul")]
                };
                let files = form.files().into_iter().chain([shader!("experts")]);
                let constants = format!(
                    "const LANES = {lanes}u;\nconst TOKENS = {tokens}u;\nconst UNIT = {}u;\nconst PAIRED = {};\n{}",
                    form.unit(),
                    form.is_paired(),
                    form.declared(),
                );
                (constants, files.chain(body).collect())
            }
            Self::Weigh => (String::new(), vec![shader!("weigh")]),
            Self::Mix => (String::new(), vec![shader!("mix")]),
            Self::SwigluOai => (String::new(), vec![shader!("swiglu_oai")]),
        }
    }
}

/// How the pairs of a step are shared out among products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Experts of a row.
    pub used: usize,
    /// All there are.
    pub experts: usize,
}

impl Tiling {
    /// Pairs that are multiplied together: about as many as an expert has.
    pub(crate) fn tokens(self, rows: usize) -> u32 {
        let each = (rows * self.used).div_ceil(self.experts.max(1));
        TOKENS.into_iter().find(|tokens| each <= *tokens as usize).unwrap_or(TOKENS[TOKENS.len() - 1])
    }

    /// The most tiles that there can be.
    pub(crate) fn tiles(self, rows: usize) -> usize {
        let pairs = rows * self.used;
        match self.tokens(rows) {
            1 => pairs,
            tokens => pairs.min(pairs / tokens as usize + self.experts),
        }
    }

    /// Words of the list of pairs and tiles, for so many rows.
    pub fn words(self, rows: usize) -> usize {
        1 + 4 * rows * self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_tile_for_every_pair_however_they_are_shared_out() {
        for (used, experts) in [(1, 1), (2, 4), (8, 128), (4, 60)] {
            let tiling = Tiling { used, experts };
            for rows in [1, 2, 3, 7, 64, 511] {
                let tokens = tiling.tokens(rows) as usize;
                // The worst that can happen: all but one of the experts have one pair more than whole tiles.
                let pairs = rows * used;
                let uneven = pairs.min(experts - 1);
                let worst = uneven + (pairs - uneven).div_ceil(tokens);
                assert!(worst <= tiling.tiles(rows), "{tiling:?}, {rows} rows");
                assert!(tiling.tiles(rows) <= pairs);
            }
        }
        assert_eq!(Tiling { used: 8, experts: 128 }.tokens(1), 1);
        assert_eq!(Tiling { used: 8, experts: 128 }.tokens(512), 8);
    }
}
