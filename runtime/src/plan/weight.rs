//! What an operation reads from a file: a tensor, or some of its rows.

use satchel_gguf::TensorType;

/// How a weight is used, which determines the form in which a device keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Operand of a product, `(rows, columns)`, one for each expert of a stack. Single-row matrices count too.
    Matrix,
    /// Rows looked up by token or position, `(rows, columns)`.
    Table,
    /// A few values needed as f32: norms, biases, scales, convolutions.
    Vector,
}

/// A tensor of the model's files, or part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightUse {
    /// The tensor's name.
    pub name: String,
    /// How it is used.
    pub role: Role,
    /// Index of the file that holds it.
    pub part: usize,
    /// Offset of its first block from the start of that GGUF.
    pub offset: u64,
    /// How its elements are stored.
    pub ty: TensorType,
    /// Rows per matrix.
    pub rows: usize,
    /// The row of the tensor that is the first of them: a part of a fused tensor may be used.
    pub first_row: usize,
    /// Elements per row.
    pub columns: usize,
    /// Number of such matrices, one per expert; 1 without experts.
    pub stack: usize,
    /// Bytes from one matrix of the stack to the next.
    pub stack_bytes: u64,
}

impl WeightUse {
    /// Bytes per row.
    pub fn row_bytes(&self) -> u64 {
        self.ty.row_bytes(self.columns as u64).expect("checked when the tensor table was read")
    }

    /// Bytes from the first to the last block used.
    pub fn bytes(&self) -> u64 {
        self.stack_bytes * (self.stack as u64 - 1) + self.row_bytes() * self.rows as u64
    }

    /// Elements of all matrices.
    pub fn elements(&self) -> usize {
        self.stack * self.rows * self.columns
    }
}
