//! The list of types, and the macros by which everything that names them all follows from it.

/// Calls the macro `$then` of `quant` with these arguments, the plain types, and the block types: name of the `TensorType`,
/// module, and implementation of [`Block`](super::Block).
macro_rules! with_types {
    ($then:ident, $($arguments:tt)*) => {
        $crate::quant::$then! {
            $($arguments)*
            plain [F32 F16 BF16]
            blocks [
                Q8_0 legacy::Q8_0, Q4_0 legacy::Q4_0, Q4_1 legacy::Q4_1, Q5_0 legacy::Q5_0, Q5_1 legacy::Q5_1,
                Q2_K k::Q2K, Q3_K k::Q3K, Q4_K k::Q4K, Q5_K k::Q5K, Q6_K k::Q6K,
                IQ1_S iq1::IQ1S, IQ1_M iq1::IQ1M,
                IQ2_XXS iq2::IQ2XXS, IQ2_XS iq2::IQ2XS, IQ2_S iq2::IQ2S,
                IQ3_XXS iq3::IQ3XXS, IQ3_S iq3::IQ3S,
                IQ4_NL iq4::IQ4NL, IQ4_XS iq4::IQ4XS,
                TQ1_0 ternary::TQ1_0, TQ2_0 ternary::TQ2_0,
                MXFP4 fp4::MXFP4, NVFP4 fp4::NVFP4,
            ]
        }
    };
}
pub(crate) use with_types;

/// Names the types where the list's modules are.
macro_rules! declare {
    (plain [$($plain:ident)*] blocks [$($name:ident $family:ident::$block:ident,)*]) => {
        $(pub use $family::$block;)*

        /// The types that can be read and multiplied; every kernel table covers all of them.
        pub const SUPPORTED: [TensorType; [$(stringify!($plain),)* $(stringify!($name)),*].len()] =
            [$(TensorType::$plain,)* $(TensorType::$name),*];
    };
}
pub(crate) use declare;

/// Calls `$body` with `$B` as the [`Block`](super::Block) type of a tensor type, or `$plain` with `$P` as its
/// [`Plain`](super::Plain) type; `$other` for a type that is not in the list.
macro_rules! for_block {
    ($ty:expr, $B:ident => $body:expr, plain $P:ident => $plain:expr, else $other:expr) => {
        $crate::quant::with_types!(for_listed, $ty, $B => $body, $P => $plain, else $other,)
    };
}
pub(crate) use for_block;

/// `for_block!` with the list.
macro_rules! for_listed {
    ($ty:expr, $B:ident => $body:expr, $P:ident => $plain:expr, else $other:expr,
     plain [$($listed:ident)*] blocks [$($name:ident $family:ident::$block:ident,)*]) => {
        match $ty {
            $(satchel_gguf::TensorType::$listed => {
                #[allow(dead_code, reason = "not every use looks at plain types")]
                type $P = $crate::quant::$listed;
                $plain
            })*
            $(satchel_gguf::TensorType::$name => {
                type $B = $crate::quant::$block;
                $body
            })*
            _ => $other,
        }
    };
}
pub(crate) use for_listed;

/// A constant array of every type with its `$T`: for plain types `$plain`, for block types that implement the trait `$Reader`
/// `$fast`, for others `$other`, which may use [`Block`](super::Block) alone.
macro_rules! by_type {
    ($T:ty: plain $P:ident => $plain:expr, $B:ident: $Reader:path => $fast:expr, else $other:expr) => {
        $crate::quant::with_types!(by_listed, $T, $P => $plain, $B: $Reader => $fast, else $other,)
    };
}
pub(crate) use by_type;

/// `by_type!` with the list. An associated constant of a type itself is found before one of a trait, so `$other` is left for
/// those that do not meet the bound.
macro_rules! by_listed {
    ($T:ty, $P:ident => $plain:expr, $B:ident: $Reader:path => $fast:expr, else $other:expr,
     plain [$($listed:ident)*] blocks [$($name:ident $family:ident::$block:ident,)*]) => {{
        struct Best<B>(std::marker::PhantomData<B>);
        impl<$B: $Reader> Best<$B> {
            const ENTRY: $T = $fast;
        }
        #[allow(dead_code, reason = "for types without a reader, if there are any")]
        trait Otherwise {
            const ENTRY: $T;
        }
        impl<$B: $crate::quant::Block> Otherwise for Best<$B> {
            const ENTRY: $T = $other;
        }
        [
            $((satchel_gguf::TensorType::$listed, {
                #[allow(dead_code, reason = "not every use looks at plain types")]
                type $P = $crate::quant::$listed;
                const ENTRY: $T = $plain;
                ENTRY
            }),)*
            $((satchel_gguf::TensorType::$name, Best::<$crate::quant::$block>::ENTRY)),*
        ]
    }};
}
pub(crate) use by_listed;
