//! Rows of block types in a GPU's memory: where a block is no multiple of 16 bytes, a row's levels come first, then its scales, so
//! that shaders read vectors of four words and a row has no more bytes than in the file but those that fill its last vector.

use satchel_gguf::TensorType;

use crate::kernel::Form;

/// The parts of a row: for each, which bytes of a block it takes.
fn parts(form: Form) -> &'static [(usize, usize)] {
    match form {
        Form::Q8_0 => &[(2, 34), (0, 2)],
        Form::Q4_0 => &[(2, 18), (0, 2)],
        Form::Q4_1 => &[(4, 20), (0, 4)],
        // The fifth bits lie before the nibbles in a block.
        Form::Q5_0 => &[(6, 22), (2, 6), (0, 2)],
        Form::Q5_1 => &[(8, 24), (4, 8), (0, 4)],
        Form::Q6K => &[(0, 208), (208, 210)],
        _ => &[],
    }
}

/// Words of a row of `columns` elements, if its blocks are taken apart.
pub(crate) fn row_words(form: Form, columns: usize) -> Option<usize> {
    let bytes: usize = parts(form).iter().map(|(from, to)| to - from).sum();
    let elements = if form == Form::Q6K { 256 } else { 32 };
    (bytes > 0).then(|| (columns / elements * bytes).div_ceil(16) * 4)
}

/// Takes a row's blocks apart; false for a form whose blocks stay whole.
pub(crate) fn take_apart(ty: TensorType, row: &[u8], out: &mut Vec<u8>) -> bool {
    let parts = parts(Form::of(ty));
    for (from, to) in parts {
        for block in row.chunks_exact(ty.block_bytes()) {
            out.extend(&block[*from..*to]);
        }
    }
    !parts.is_empty()
}
