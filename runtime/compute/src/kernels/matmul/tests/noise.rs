//! Random weights of every type: arbitrary level bits, with scales of a chosen kind.

use half::{bf16, f16};
use satchel_gguf::TensorType;

use crate::quant::random::set_f16_scales;

/// A small deterministic noise generator (xorshift64*).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Between −1 and 1, denser around 0.
    pub(crate) fn value(&mut self) -> f32 {
        let mut unit = || (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        unit() * unit()
    }
}

/// How the scales of test weights are drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Scales {
    /// As large as in models, both signs.
    Usual,
    /// Zeros, denormals, the largest and the smallest, both signs; and blocks that repeat one byte.
    Odd,
}

impl Scales {
    fn f16(self, noise: &mut Noise) -> u16 {
        match (self, noise.bits() % 5) {
            (Scales::Usual, _) => f16::from_f32(noise.value() * 0.05).to_bits(),
            (Scales::Odd, 0) => 0,
            (Scales::Odd, 1) => 0x8000,
            (Scales::Odd, 2) => (noise.bits() & 0x83ff) as u16,
            (Scales::Odd, 3) => 0x7bff | (noise.bits() & 0x8000) as u16,
            (Scales::Odd, _) => f16::from_f32(noise.value() * 4.0).to_bits(),
        }
    }

    /// An exponent; powers beyond 2⁹⁶ would make every row's sum infinite.
    fn e8m0(self, noise: &mut Noise) -> u8 {
        match self {
            Scales::Usual => 112 + (noise.bits() % 12) as u8,
            Scales::Odd => [0, 1, 2, 120, 128, 224][(noise.bits() % 6) as usize],
        }
    }

    fn ue4m3(self, noise: &mut Noise) -> u8 {
        match self {
            Scales::Usual => 40 + (noise.bits() % 24) as u8,
            Scales::Odd => [0, 1, 7, 8, 0x38, 0x7e, 0x7f, 0xff][(noise.bits() % 8) as usize],
        }
    }
}

/// Random blocks; levels and integer scales take every bit pattern, other scales are finite.
pub(crate) fn weights(noise: &mut Noise, ty: TensorType, rows: usize, columns: usize, scales: Scales) -> Vec<u8> {
    let bytes = usize::try_from(ty.row_bytes(columns as u64).expect("whole blocks")).expect("small");
    let mut weights: Vec<u8> = (0..rows * bytes).map(|_| noise.bits() as u8).collect();
    for block in weights.chunks_exact_mut(ty.block_bytes()) {
        if scales == Scales::Odd && noise.bits().is_multiple_of(4) {
            block.fill([0, 0xff, 0x55, noise.bits() as u8][(noise.bits() % 4) as usize]);
        }
        match ty {
            TensorType::F32 => block.copy_from_slice(&noise.value().to_le_bytes()),
            TensorType::BF16 => block.copy_from_slice(&bf16::from_f32(noise.value()).to_le_bytes()),
            TensorType::MXFP4 => block[0] = scales.e8m0(noise),
            TensorType::NVFP4 => block[..4].fill_with(|| scales.ue4m3(noise)),
            _ => set_f16_scales(ty, block, |_| scales.f16(noise)),
        }
    }
    weights
}
