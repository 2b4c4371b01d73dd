//! AMX: whether the processor has it and the system lets this process use it, and the shapes of its tiles.
//!
//! Tiles are eight registers of sixteen rows of 64 bytes. Since they make what is saved of a thread 8 KB longer, Linux gives them
//! to processes that ask. The compiler has neither names for them nor intrinsics that are stable: instructions are written out.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Shown to the user.
pub(in crate::kernels) const NEEDS: &str =
    "AVX-512 F, BW, VL, DQ, VNNI and BF16, AMX with BF16, and a system that allows it";

/// Whether this processor has what [`NEEDS`] names, and the system allows it. Asks the system once.
pub(in crate::kernels) fn runs_here() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    super::runs_here_with_bf16() && *ALLOWED.get_or_init(|| processor_has_tiles() && system_allows())
}

/// Tiles and their products of BF16, and the system saves them.
fn processor_has_tiles() -> bool {
    const TILES_AND_BF16: u32 = 1 << 24 | 1 << 22;
    /// Configuration and contents of tiles among the state that the system saves.
    const SAVED: u64 = 1 << 17 | 1 << 18;
    let leaves = __cpuid(0).eax;
    // SAFETY: processors with AVX-512 that the system supports have `xgetbv`.
    leaves >= 7 && __cpuid_count(7, 0).edx & TILES_AND_BF16 == TILES_AND_BF16 && unsafe { saved() } & SAVED == SAVED
}

/// What the system saves of a thread.
#[target_feature(enable = "xsave")]
fn saved() -> u64 {
    // SAFETY: register 0 is always there.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the tiles' contents, for all threads of this process.
#[cfg(target_os = "linux")]
fn system_allows() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_CONTENTS: u64 = 18;
    let result: i64;
    // SAFETY: the call reads and writes no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_CONTENTS,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn system_allows() -> bool {
    false
}

/// Rows and bytes a row of each tile, in the processor's form.
#[repr(C, align(64))]
pub(super) struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Eight tiles: `(rows, bytes a row)`.
    pub(super) const fn new(tiles: [(u8, u16); 8]) -> Self {
        let mut shapes = Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut tile = 0;
        while tile < tiles.len() {
            (shapes.rows[tile], shapes.row_bytes[tile]) = tiles[tile];
            tile += 1;
        }
        shapes
    }

    /// Calls `work` with tiles of these shapes, which are the thread's until it returns.
    ///
    /// # Safety
    /// [`runs_here`] said so.
    pub(super) unsafe fn with<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: the processor has tiles, and these are shapes that it takes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) std::ptr::from_ref(self), options(nostack, readonly)) };
        let result = work();
        // SAFETY: the same. What is left in tiles would be saved at every switch of threads.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
        result
    }
}
