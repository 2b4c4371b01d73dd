//! What an operation reads of a file: a tensor, or some rows of one.

use satchel_gguf::TensorType;

/// How a weight is used, which decides in what form a device keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A factor of a product, `(rows, columns)`, one for each expert of a stack. A matrix of one row is a matrix.
    Matrix,
    /// Rows that are looked up by token or position, `(rows, columns)`.
    Table,
    /// A few numbers that are needed as f32: norms, biases, scales, convolutions.
    Vector,
}

/// A tensor of the model's files, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightUse {
    /// The tensor's name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Which of the model's files holds it.
    pub part: usize,
    /// Where its first block begins, in bytes from the start of that GGUF.
    pub offset: u64,
    /// How its elements are stored.
    pub ty: TensorType,
    /// Rows of one matrix.
    pub rows: usize,
    /// Which row of the tensor the first of them is: of a fused tensor, a part may be used.
    pub first_row: usize,
    /// Elements of a row.
    pub columns: usize,
    /// Matrices of this shape, of which an expert is one; 1 where there are no experts.
    pub stack: usize,
    /// Bytes from one matrix of the stack to the next.
    pub stack_bytes: u64,
}

impl WeightUse {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> u64 {
        self.ty.row_bytes(self.columns as u64).expect("checked when the tensor table was read")
    }

    /// Bytes from the first block used to the last.
    pub fn bytes(&self) -> u64 {
        self.stack_bytes * (self.stack as u64 - 1) + self.row_bytes() * self.rows as u64
    }

    /// Elements of all matrices.
    pub fn elements(&self) -> usize {
        self.stack * self.rows * self.columns
    }
}
