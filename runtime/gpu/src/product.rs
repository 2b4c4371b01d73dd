//! The text of products: one shader for up to three matrices, each with its own reader, in one of two shapes.

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

/// How a product is spread over threads. All shapes give the same bits.
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
}

impl Shape {
    /// Tokens that a workgroup multiplies together.
    pub fn tokens(self) -> usize {
        match self {
            Self::Lanes { tokens, .. } => tokens as usize,
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
        }
    }

    fn threads(self) -> u32 {
        match self {
            Self::Lanes { threads, .. } => threads,
            Self::Tile => 256,
        }
    }
}

/// The whole text of a product's shader, apart from `common.wgsl`.
pub(crate) fn source(matrices: &[Reading], shape: Shape) -> String {
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
    };
    text += &expand(&files.concat(), &constants);
    text
}

/// The entry: which matrix a workgroup belongs to.
fn main(matrices: &[Reading], shape: Shape) -> String {
    let mut text = String::from(
        "\n@compute @workgroup_size(THREADS)\n\
         fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {\n\
         \x20   var index = linear(at, count);\n\
         \x20   let tokens = rows(params.wanted_only);\n\
         \x20   let token0 = at.z * TOKENS;\n",
    );
    for (at, matrix) in matrices.iter().enumerate() {
        let (rows, suffix) = (shape.rows(*matrix), suffix(at));
        text += &format!(
            "    let workgroups_{at} = (params.matrices[{at}].rows + {}u) / {rows}u;\n\
             \x20   if (index < workgroups_{at}) {{\n\
             \x20       work{suffix}(index, token0, tokens, thread);\n\
             \x20       return;\n\
             \x20   }}\n\
             \x20   index -= workgroups_{at};\n",
            rows - 1
        );
    }
    text + "}\n"
}
