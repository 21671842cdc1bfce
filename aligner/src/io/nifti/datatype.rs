//! Voxel types: codes, sizes, decoding, and arithmetic that keeps the type.

/// A real voxel type of NIfTI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// Code 2.
    U8,
    /// Code 256.
    I8,
    /// Code 512.
    U16,
    /// Code 4.
    I16,
    /// Code 768.
    U32,
    /// Code 8.
    I32,
    /// Code 1280.
    U64,
    /// Code 1024.
    I64,
    /// Code 16.
    F32,
    /// Code 64.
    F64,
}

impl Datatype {
    const ALL: [Self; 10] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F32,
        Self::F64,
    ];

    /// The type of a `datatype` code; `None` for complex, colour, binary and extended types.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The `datatype` code.
    pub const fn code(self) -> i16 {
        match self {
            Self::U8 => 2,
            Self::I8 => 256,
            Self::U16 => 512,
            Self::I16 => 4,
            Self::U32 => 768,
            Self::I32 => 8,
            Self::U64 => 1280,
            Self::I64 => 1024,
            Self::F32 => 16,
            Self::F64 => 64,
        }
    }

    /// Bytes of one voxel.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Name as numpy and nibabel write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }
}

/// A value as stored in a file, before `scl_slope` and `scl_inter`.
pub trait Voxel: Copy + Send + Sync + PartialEq + 'static {
    /// As a float; exact up to 2⁵³.
    fn to_f64(self) -> f64;
    /// Nearest value of the type: rounds half to even, clamps to the range.
    fn from_f64(value: f64) -> Self;
    /// From the bytes of several voxels.
    fn decode_all(bytes: &[u8], big_endian: bool) -> impl Iterator<Item = Self>;
    /// Appends the little-endian bytes.
    fn encode(self, out: &mut Vec<u8>);
}

macro_rules! voxel_common {
    ($type:ty) => {
        fn to_f64(self) -> f64 {
            self as f64
        }

        fn decode_all(bytes: &[u8], big_endian: bool) -> impl Iterator<Item = Self> {
            bytes.as_chunks().0.iter().map(move |bytes| {
                if big_endian {
                    <$type>::from_be_bytes(*bytes)
                } else {
                    <$type>::from_le_bytes(*bytes)
                }
            })
        }

        fn encode(self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_le_bytes());
        }
    };
}

macro_rules! integer_voxel {
    ($($type:ty),*) => {$(
        impl Voxel for $type {
            voxel_common!($type);

            fn from_f64(value: f64) -> Self {
                // `as` clamps to the range of the type and turns NaN into 0.
                value.round_ties_even() as $type
            }
        }
    )*};
}

macro_rules! float_voxel {
    ($($type:ty),*) => {$(
        impl Voxel for $type {
            voxel_common!($type);

            fn from_f64(value: f64) -> Self {
                value as $type
            }
        }
    )*};
}

integer_voxel!(u8, i8, u16, i16, u32, i32, u64, i64);
float_voxel!(f32, f64);

/// Stored values of any type, x fastest.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "one variant per type")]
pub enum Voxels {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// Expands `$then!(type, variant of Voxels)` for the type of a [`Datatype`].
macro_rules! with_datatype {
    ($datatype:expr, $then:ident) => {
        match $datatype {
            $crate::io::nifti::Datatype::U8 => $then!(u8, U8),
            $crate::io::nifti::Datatype::I8 => $then!(i8, I8),
            $crate::io::nifti::Datatype::U16 => $then!(u16, U16),
            $crate::io::nifti::Datatype::I16 => $then!(i16, I16),
            $crate::io::nifti::Datatype::U32 => $then!(u32, U32),
            $crate::io::nifti::Datatype::I32 => $then!(i32, I32),
            $crate::io::nifti::Datatype::U64 => $then!(u64, U64),
            $crate::io::nifti::Datatype::I64 => $then!(i64, I64),
            $crate::io::nifti::Datatype::F32 => $then!(f32, F32),
            $crate::io::nifti::Datatype::F64 => $then!(f64, F64),
        }
    };
}
pub(super) use with_datatype;

/// Evaluates an expression with the vector inside a [`Voxels`], whatever its type.
#[macro_export]
macro_rules! with_voxels {
    ($voxels:expr, $values:ident => $body:expr) => {
        match $voxels {
            $crate::io::nifti::Voxels::U8($values) => $body,
            $crate::io::nifti::Voxels::I8($values) => $body,
            $crate::io::nifti::Voxels::U16($values) => $body,
            $crate::io::nifti::Voxels::I16($values) => $body,
            $crate::io::nifti::Voxels::U32($values) => $body,
            $crate::io::nifti::Voxels::I32($values) => $body,
            $crate::io::nifti::Voxels::U64($values) => $body,
            $crate::io::nifti::Voxels::I64($values) => $body,
            $crate::io::nifti::Voxels::F32($values) => $body,
            $crate::io::nifti::Voxels::F64($values) => $body,
        }
    };
}

/// Evaluates an expression to a [`Voxels`] of the same type as another one.
#[macro_export]
macro_rules! map_voxels {
    ($voxels:expr, $values:ident => $body:expr) => {{
        use $crate::io::nifti::Voxels;
        match $voxels {
            Voxels::U8($values) => Voxels::U8($body),
            Voxels::I8($values) => Voxels::I8($body),
            Voxels::U16($values) => Voxels::U16($body),
            Voxels::I16($values) => Voxels::I16($body),
            Voxels::U32($values) => Voxels::U32($body),
            Voxels::I32($values) => Voxels::I32($body),
            Voxels::U64($values) => Voxels::U64($body),
            Voxels::I64($values) => Voxels::I64($body),
            Voxels::F32($values) => Voxels::F32($body),
            Voxels::F64($values) => Voxels::F64($body),
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_half_to_even_and_clamped() {
        assert_eq!(u8::from_f64(2.5), 2);
        assert_eq!(u8::from_f64(3.5), 4);
        assert_eq!(u8::from_f64(-7.0), 0);
        assert_eq!(u8::from_f64(300.0), 255);
        assert_eq!(i16::from_f64(-1e9), i16::MIN);
    }

    #[test]
    fn both_byte_orders_decode() {
        assert!(i16::decode_all(&[1, 2, 3, 4], true).eq([0x0102, 0x0304]));
        assert!(i16::decode_all(&[1, 2, 3, 4], false).eq([0x0201, 0x0403]));
        assert!(f64::decode_all(&1.5_f64.to_be_bytes(), true).eq([1.5]));
    }

    #[test]
    fn codes_map_both_ways() {
        for kind in Datatype::ALL {
            assert_eq!(Datatype::from_code(kind.code()), Some(kind));
        }
        for refused in [0, 1, 32, 128, 1536, 1792, 2048, 2304] {
            assert_eq!(Datatype::from_code(refused), None);
        }
    }
}
