//! The atomic word that threads take chunks from.

/// The job word: the chunks not yet taken, `front .. back`, below a 32-bit generation counter. It wraps after hours of
/// uninterrupted dispatch, and a worker would have to be suspended between two instructions for exactly that long to be fooled.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) generation: u32,
    pub(super) front: u16,
    pub(super) back: u16,
}

impl Word {
    pub(super) fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.front) << 16 | u64::from(self.back)
    }

    pub(super) fn unpack(word: u64) -> Self {
        Word { generation: (word >> 32) as u32, front: (word >> 16) as u16, back: word as u16 }
    }

    /// The chunk at that end, and the rest. There must be one.
    pub(super) fn take(self, end: End) -> (u16, Self) {
        match end {
            End::Front => (self.front, Word { front: self.front + 1, ..self }),
            End::Back => (self.back - 1, Word { back: self.back - 1, ..self }),
        }
    }

    /// No chunk is left.
    pub(super) fn is_over(self) -> bool {
        self.front == self.back
    }
}

/// The end of a job that a thread takes chunks from.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    Front,
    Back,
}
