//! As much of NIfTI-1 as the service tells about its images.

use std::io::{Read, Write};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde_json::{Value, json};

/// Compresses.
pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// The content of a file, of a cut one as far as it goes.
pub(crate) fn plain(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.to_vec();
    }
    let mut content = Vec::new();
    let _ = MultiGzDecoder::new(bytes).read_to_end(&mut content);
    content
}

/// The header, if these bytes begin with one.
pub(crate) struct Header {
    pub(crate) shape: [i64; 3],
    pub(crate) spacing: [f64; 3],
    affine: [[f64; 4]; 4],
    datatype: &'static str,
}

impl Header {
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        let i16_at = |at: usize| {
            Some(i16::from_le_bytes(
                content.get(at..at + 2)?.try_into().ok()?,
            ))
        };
        let f32_at = |at: usize| {
            let bytes = content.get(at..at + 4)?.try_into().ok()?;
            Some(f64::from(f32::from_le_bytes(bytes)))
        };
        (content.get(..4)? == 348_i32.to_le_bytes()).then_some(())?;
        let mut header = Self {
            shape: [0; 3],
            spacing: [0.0; 3],
            affine: [[0.0, 0.0, 0.0, 0.0]; 4],
            datatype: match i16_at(70)? {
                2 => "uint8",
                4 => "int16",
                8 => "int32",
                16 => "float32",
                64 => "float64",
                256 => "int8",
                512 => "uint16",
                768 => "uint32",
                _ => return None,
            },
        };
        let sform = i16_at(254)? > 0;
        header.affine[3][3] = 1.0;
        for axis in 0..3 {
            header.shape[axis] = i64::from(i16_at(42 + 2 * axis)?);
            header.spacing[axis] = f32_at(80 + 4 * axis)?;
            if sform {
                for column in 0..4 {
                    header.affine[axis][column] = f32_at(280 + 16 * axis + 4 * column)?;
                }
            } else {
                header.affine[axis][axis] = header.spacing[axis];
            }
        }
        Some(header)
    }

    /// Viewer space (first corner at 0) → physical space, nm: `A · T(−½) · S⁻¹`.
    fn viewer_transform(&self) -> [[f64; 4]; 4] {
        let mut viewer = [[0.0; 4]; 4];
        viewer[3][3] = 1.0;
        for row in 0..3 {
            let mut corner = self.affine[row][3];
            for column in 0..3 {
                viewer[row][column] = self.affine[row][column] / self.spacing[column];
                corner -= self.affine[row][column] / 2.0;
            }
            viewer[row][3] = corner * 1e6;
        }
        viewer
    }

    /// `nifti` and `neuroglancer` of an entry.
    pub(crate) fn describe(&self, segmentation: bool) -> (Value, Value) {
        let nifti = json!({
            "niftiVersion": "Nifti1", "byteOrder": "LITTLE_ENDIAN", "size": self.shape,
            "voxelSize": self.spacing, "spatialUnits": "Millimeter", "dataType": self.datatype,
            "coordinateSystem": "SCANNER_ANAT", "affineMatrix": self.affine,
        });
        let neuroglancer = json!({
            "type": if segmentation { "segmentation" } else { "image" },
            "data_type": self.datatype, "size": self.shape,
            "resolution": self.spacing.map(|mm| mm * 1e6),
            "transform": self.viewer_transform(),
        });
        (nifti, neuroglancer)
    }

    /// `info` of the Neuroglancer format *precomputed*, one chunk in all.
    pub(crate) fn info(&self, segmentation: bool) -> Value {
        json!({
            "@type": "neuroglancer_multiscale_volume",
            "type": if segmentation { "segmentation" } else { "image" },
            "data_type": self.datatype, "num_channels": 1,
            "scales": [{
                "key": "full", "size": self.shape, "resolution": self.spacing.map(|mm| mm * 1e6),
                "chunk_sizes": [self.shape], "voxel_offset": [0, 0, 0], "encoding": "raw",
            }],
        })
    }
}

/// The file with another affine, in nm and row-major, as its sform.
pub(crate) fn with_affine(content: &[u8], matrix_nm: &Value) -> Option<Vec<u8>> {
    let mut changed = content.to_vec();
    for row in 0..3 {
        for column in 0..4 {
            let scale = if column == 3 { 1e-6 } else { 1.0 };
            let value = (matrix_nm[row][column].as_f64()? * scale) as f32;
            let at = 280 + 16 * row + 4 * column;
            changed
                .get_mut(at..at + 4)?
                .copy_from_slice(&value.to_le_bytes());
        }
    }
    changed
        .get_mut(254..256)?
        .copy_from_slice(&1_i16.to_le_bytes());
    Some(changed)
}
