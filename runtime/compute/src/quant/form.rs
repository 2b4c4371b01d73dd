//! What groups hold besides their levels: the part of a block type that products depend on.

/// A form of groups. A type rather than a value, so that products can be compiled once per form.
pub trait Form {
    /// Levels exceed ±64: an i16 cannot hold the sum of four products with activations.
    const LARGE: bool = false;
    /// Groups add an f32 offset to every weight.
    const OFFSET: bool = false;
    /// Each half of a group has its own integer scale, [`Group::multipliers`](super::Group::multipliers).
    const HALVES: bool = false;
    /// Each half of a group has its own f32 scale and, if [`Form::OFFSET`], offset, and products add one after the other. Never
    /// together with `HALVES`.
    const APART: bool = false;
}

macro_rules! forms {
    ($($(#[$doc:meta])* $form:ident: $($flag:ident)*;)*) => {
        $(
            $(#[$doc])*
            pub struct $form;
            impl Form for $form {
                $(const $flag: bool = true;)*
            }
        )*
    };
}

forms! {
    /// A scale for each group.
    Scaled: ;
    /// The same, with levels that use a whole byte.
    ScaledBytes: LARGE;
    /// A scale and an offset for each group.
    WithOffset: OFFSET;
    /// A scale for each group, and integer scales for its halves.
    Halves: HALVES;
    /// A scale for each half.
    Apart: APART;
    /// A scale and an offset for each half.
    ApartWithOffset: APART OFFSET;
}
