//! Grids of the types that store indices instead of levels.
//!
//! IQ1, IQ2 and IQ3 pick four or eight adjacent columns together from a grid of a few hundred points; IQ2 and IQ3 store signs
//! separately. The grids are hexadecimal text, decoded to tables at compile time.

mod iq1;
mod iq2;
mod iq3;

pub(crate) use iq1::IQ1;
pub(crate) use iq2::{IQ2S, IQ2XS, IQ2XXS};
pub(crate) use iq3::{IQ3S, IQ3XXS};

/// The signs of eight columns encoded in seven bits, first column lowest, 1 for minus: the eighth makes the number of minuses
/// even.
pub(crate) static SIGNS: [u8; 128] = {
    let mut signs = [0; 128];
    let mut index = 0;
    while index < signs.len() {
        let parity = (index as u8).count_ones() % 2;
        signs[index] = index as u8 | (parity << 7) as u8;
        index += 1;
    }
    signs
};

/// Points of eight columns, two bits each, which index `values`.
const fn eight<const N: usize>(text: &str, values: [u8; 4]) -> [u64; N] {
    assert!(text.len() == 4 * N, "four digits a point");
    let (text, mut grid) = (text.as_bytes(), [0; N]);
    let mut column = 0;
    while column < 8 * N {
        let bits = byte(text, column / 4) >> (2 * (column % 4)) & 3;
        grid[column / 8] |= (values[bits as usize] as u64) << (8 * (column % 8));
        column += 1;
    }
    grid
}

/// Points of four columns, four bits each, which index `values`.
const fn four<const N: usize>(text: &str, values: [u8; 8]) -> [u32; N] {
    assert!(text.len() == 4 * N, "four digits a point");
    let (text, mut grid) = (text.as_bytes(), [0; N]);
    let mut column = 0;
    while column < 4 * N {
        let bits = byte(text, column / 2) >> (4 * (column % 2)) & 15;
        grid[column / 4] |= (values[bits as usize] as u32) << (8 * (column % 4));
        column += 1;
    }
    grid
}

/// Decodes two hexadecimal digits.
const fn byte(text: &[u8], index: usize) -> u8 {
    digit(text[2 * index]) << 4 | digit(text[2 * index + 1])
}

const fn digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => panic!("a hexadecimal digit"),
    }
}
