//! The shaders that pick the most likely tokens of a row.

/// The numbers of candidates that are kept.
pub const KEEPS: [u32; 3] = [1, 64, 256];

/// Candidates that a workgroup compares.
pub const BLOCK: usize = 1024;

/// A shader of picking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the comment at the top of its file")]
pub enum PickKernel {
    /// How many are kept, also below.
    Logits {
        keep: u32,
    },
    Lists {
        keep: u32,
    },
    Gather,
}

impl PickKernel {
    pub(super) fn all() -> Vec<Self> {
        let each = KEEPS.into_iter().flat_map(|keep| [Self::Logits { keep }, Self::Lists { keep }]);
        each.chain([Self::Gather]).collect()
    }

    pub(super) fn bindings(self) -> (u32, u32) {
        match self {
            Self::Logits { .. } | Self::Gather => (2, 1),
            Self::Lists { .. } => (1, 1),
        }
    }

    /// Constants, and the files after `common.wgsl`.
    pub(super) fn parts(self) -> (String, Vec<&'static str>) {
        let constant = |keep: u32| format!("const KEEP = {keep}u;\n");
        match self {
            Self::Logits { keep } => (constant(keep), vec![shader!("pick"), shader!("pick_logits")]),
            Self::Lists { keep } => (constant(keep), vec![shader!("pick"), shader!("pick_lists")]),
            Self::Gather => (String::new(), vec![shader!("gather")]),
        }
    }
}
