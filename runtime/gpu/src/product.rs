//! The text of products: one shader for up to three matrices, each with its own reader, in one of three shapes.

use crate::kernel::{Form, shader};
use crate::text::{expand, renamed};

/// Matrices that one dispatch multiplies with.
pub const MOST: usize = 3;

/// How a matrix is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// How it lies in memory.
    pub form: Form,
    /// The chains that a row's units are dealt to (`shaders/product.wgsl`).
    pub lanes: u32,
}

/// How an adapter multiplies cooperative matrices of f16 with sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Rows and columns of each: 8 or 16.
    pub size: u32,
    /// Threads of a subgroup.
    pub subgroup: u32,
    /// Columns that lie in a workgroup's memory at once: 32 or 64.
    pub columns: u32,
}

impl Matrices {
    /// Subgroups of a workgroup.
    const SUBGROUPS: u32 = 8;
    /// Rows of a workgroup.
    const ROWS: u32 = 128;
    /// Tokens of a workgroup: for a short prompt, and a long one.
    pub(crate) const TOKENS: [u32; 2] = [32, 128];

    /// What a workgroup's memory holds: `shaders/matrices.wgsl`.
    pub(crate) fn workgroup_bytes(self) -> u32 {
        let stride = 8 * (self.columns / 4 + 2);
        let most = Self::TOKENS[Self::TOKENS.len() - 1];
        (Self::ROWS + most) * stride + Self::SUBGROUPS * 4 * self.size * self.size
    }

    /// Threads of a workgroup.
    pub(crate) fn threads(self) -> u32 {
        Self::SUBGROUPS * self.subgroup
    }

    /// The shape for so many tokens: all give the same bits.
    pub(crate) fn shape(self, tokens: usize) -> Shape {
        let fits = Self::TOKENS.into_iter().find(|most| tokens <= *most as usize);
        Shape::Matrices { of: self, tokens: fits.unwrap_or(Self::TOKENS[Self::TOKENS.len() - 1]) }
    }

    pub(crate) fn shapes(self) -> [Shape; 2] {
        Self::TOKENS.map(|tokens| Shape::Matrices { of: self, tokens })
    }

    /// Matrices of a subgroup: down the rows, and along so many tokens; and how many subgroups are one below the other.
    fn tiles(self, tokens: u32) -> (u32, u32, u32) {
        // Few tokens leave no more than a column of subgroups.
        let across = if tokens > 32 { 2 } else { Self::SUBGROUPS };
        let beside = Self::SUBGROUPS / across;
        (Self::ROWS / across / self.size, tokens / beside / self.size, across)
    }

    /// The constants of `shaders/matrices.wgsl`.
    fn text(self, tokens: u32) -> String {
        let Self { size, subgroup, columns } = self;
        let (row_tiles, token_tiles, across) = self.tiles(tokens);
        format!(
            "const SIZE = {size}u;\nconst SUBGROUP = {subgroup}u;\nconst COLUMNS = {columns}u;\nconst ROWS = {}u;\n\
             const ROW_TILES = {row_tiles}u;\nconst TOKEN_TILES = {token_tiles}u;\nconst ACROSS = {across}u;\n",
            Self::ROWS
        )
    }
}

/// Whether cooperative matrices may multiply these, in f16. F32 weights are multiplied in f32.
pub(crate) fn may_be_halves(mut matrices: impl Iterator<Item = Reading>) -> bool {
    matrices.all(|matrix| matrix.form != Form::F32)
}

/// How a product is spread over threads. Lanes and tiles give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// For a few tokens: as many threads a row as there are chains.
    Lanes {
        /// Tokens multiplied together.
        tokens: u32,
        /// Rows that a thread has at once.
        rows: u32,
        /// Threads of a workgroup.
        threads: u32,
    },
    /// For a prompt: 64 rows and 64 tokens a workgroup.
    Tile,
    /// For a prompt, by cooperative matrices.
    Matrices {
        /// The adapter's.
        of: Matrices,
        /// Tokens of a workgroup.
        tokens: u32,
    },
}

impl Shape {
    /// Tokens that a workgroup multiplies together.
    pub fn tokens(self) -> usize {
        match self {
            Self::Lanes { tokens, .. } | Self::Matrices { tokens, .. } => tokens as usize,
            Self::Tile => 64,
        }
    }

    /// The workgroups that a matrix of so many rows takes.
    pub(crate) fn workgroups(self, reading: Reading, rows: usize) -> usize {
        rows.div_ceil(self.rows(reading) as usize)
    }

    /// Rows of a workgroup.
    fn rows(self, reading: Reading) -> u32 {
        match self {
            Self::Lanes { rows, threads, .. } => rows * (threads / reading.lanes),
            Self::Tile => 64,
            Self::Matrices { .. } => Matrices::ROWS,
        }
    }

    fn threads(self) -> u32 {
        match self {
            Self::Lanes { threads, .. } => threads,
            Self::Tile => 256,
            Self::Matrices { of, .. } => of.threads(),
        }
    }
}

/// The whole text of a product's shader.
pub(crate) fn source(matrices: &[Reading], shape: Shape) -> String {
    let body = format!("{}{}", shader!("common"), body(matrices, shape));
    match shape {
        Shape::Matrices { of, .. } => {
            let named = format!("coop_mat{0}x{0}", of.size);
            format!("enable f16;\nenable wgpu_cooperative_matrix;\n{}", body.replace("coop_mat16x16", &named))
        }
        _ => body,
    }
}

fn body(matrices: &[Reading], shape: Shape) -> String {
    let plain = matrices[0].form.is_plain();
    let x = if plain { "f32" } else { "vec4<u32>" };
    let mut text = format!(
        "const THREADS = {}u;\nconst TOKENS = {}u;\n{}@group(0) @binding(2) var<storage, read> x: array<{x}>;\n\n",
        shape.threads(),
        shape.tokens(),
        shader!("product"),
    );
    match shape {
        Shape::Lanes { rows, .. } => text += &format!("const ROWS = {rows}u;\n{}\n", shader!("lanes")),
        Shape::Tile => text += if plain { shader!("tile_plain") } else { shader!("tile") },
        Shape::Matrices { of, tokens } => text += &format!("{}{}", of.text(tokens), shader!("matrices")),
    }
    if plain {
        text += shader!("plain/activations");
    }
    for (at, matrix) in matrices.iter().enumerate() {
        let part = part(at, matrices.len(), *matrix, shape);
        text += &if at == 0 { part } else { renamed(&part, &suffix(at)) };
    }
    text + &main(matrices, shape)
}

fn suffix(at: usize) -> String {
    if at == 0 { String::new() } else { format!("_{at}") }
}

/// What a matrix has of its own, with the names of the first.
fn part(at: usize, count: usize, matrix: Reading, shape: Shape) -> String {
    let Reading { form, lanes } = matrix;
    let (words, element) =
        if form.in_fours() { (shader!("blocks/fours"), "vec4<u32>") } else { (shader!("blocks/words"), "u32") };
    let mut text = format!(
        "\n@group(0) @binding({}) var<storage, read> weights: array<{element}>;\n\
         @group(0) @binding({}) var<storage, read> bias: array<f32>;\n\
         @group(0) @binding({}) var<storage, read_write> out: array<f32>;\n\
         const MATRIX = {at}u;\nconst LANES = {lanes}u;\nconst UNIT = {}u;\nconst PAIRED = {};\n",
        3 + 2 * at,
        4 + 2 * at,
        3 + 2 * count + at,
        form.unit(),
        form.is_paired(),
    );
    let mut files = Vec::new();
    if !form.is_plain() {
        files.push(words);
    }
    files.extend(form.reader());
    files.push(shader!("result"));
    let constants = match shape {
        Shape::Lanes { tokens, rows, .. } => {
            files.push(shader!("chains"));
            files.extend(match form.is_plain() {
                true => &[shader!("matmul_plain")][..],
                false => &[shader!("blocks/units"), shader!("matmul")],
            });
            vec![("LANES", lanes), ("TOKENS", tokens), ("ROWS", rows), ("UNIT", form.unit()), ("FOUR", 4)]
        }
        Shape::Tile => {
            files.extend(match form.is_plain() {
                true => &[shader!("matmul_plain_tile")][..],
                false => &[shader!("blocks/units"), shader!("matmul_tile")],
            });
            vec![("FOUR", 4), ("UNIT", form.unit())]
        }
        Shape::Matrices { of, tokens } => {
            files.push(if form.is_plain() { shader!("matrices_plain") } else { shader!("matrices_blocks") });
            files.push(shader!("matmul_matrices"));
            let (row_tiles, token_tiles, _) = of.tiles(tokens);
            vec![("FOUR", 4), ("ROW_TILES", row_tiles), ("TOKEN_TILES", token_tiles), ("STEPS", of.columns / of.size)]
        }
    };
    text += &expand(&files.concat(), &constants);
    text
}

/// The entry: which matrix a workgroup belongs to.
fn main(matrices: &[Reading], shape: Shape) -> String {
    // The rows that are multiplied in this shape; see `lanes` in `common.wgsl`.
    let (builtin, argument, rows) = match shape {
        Shape::Matrices { .. } => (
            ", @builtin(subgroup_id) subgroup: u32",
            ", subgroup",
            "let tokens = step.tokens;\n    let token0 = step.lanes + at.z * TOKENS;".to_owned(),
        ),
        _ => {
            let all = if may_be_halves(matrices.iter().copied()) { "step.lanes" } else { "step.tokens" };
            let rows = format!(
                "let tokens = select({all}, step.outputs, params.wanted_only != 0u);\n    let token0 = at.z * TOKENS;"
            );
            ("", "", rows)
        }
    };
    let mut text = format!(
        "\n@compute @workgroup_size(THREADS)\n\
         fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, \
         @builtin(local_invocation_index) thread: u32{builtin}) {{\n\
         \x20   var index = linear(at, count);\n\
         \x20   {rows}\n",
    );
    for (at, matrix) in matrices.iter().enumerate() {
        let (rows, suffix) = (shape.rows(*matrix), suffix(at));
        text += &format!(
            "    let workgroups_{at} = (params.matrices[{at}].rows + {}u) / {rows}u;\n\
             \x20   if (index < workgroups_{at}) {{\n\
             \x20       work{suffix}(index, token0, tokens, thread{argument});\n\
             \x20       return;\n\
             \x20   }}\n\
             \x20   index -= workgroups_{at};\n",
            rows - 1
        );
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workgroups_matrices_cover_its_rows_and_tokens() {
        for (size, subgroup, columns) in [(16, 32, 64), (16, 64, 32), (8, 8, 32), (8, 32, 64)] {
            let of = Matrices { size, subgroup, columns };
            for tokens in Matrices::TOKENS {
                let (row_tiles, token_tiles, across) = of.tiles(tokens);
                assert_eq!(row_tiles * size * across, Matrices::ROWS);
                assert_eq!(token_tiles * size * (Matrices::SUBGROUPS / across), tokens);
                assert_eq!(columns % size, 0);
            }
        }
        let of = Matrices { size: 16, subgroup: 32, columns: 64 };
        assert_eq!((of.workgroup_bytes(), of.threads()), (45_056, 256));
        assert_eq!([1, 32, 33, 500].map(|tokens| of.shape(tokens).tokens()), [32, 32, 128, 128]);
    }
}
