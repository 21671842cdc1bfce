//! Which affine a file means, in millimetres.
//!
//! Rule: the sform if its code is positive, else the qform if its code is positive, else the voxel
//! sizes alone (the corner voxel at the origin), with a warning. Tools disagree where both forms
//! are set and differ (nibabel then takes the sform, ITK and ANTs often the qform): that is a
//! warning, too.

use nifti::NiftiHeader;

use super::header::HeaderError;
use crate::{affine::Affine, grid::Grid};

/// Where a file's affine came from.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineChoice {
    /// `sform`, `qform` or `voxel sizes`.
    pub taken: &'static str,
    /// What the sform says, in mm, if its code is positive.
    pub sform: Option<Affine>,
    /// What the qform says, in mm, if its code is positive.
    pub qform: Option<Affine>,
}

/// Distance at which sform and qform count as different, in voxels.
const TOLERATED_VOXELS: f64 = 0.1;

pub(super) fn choose(
    raw: &NiftiHeader,
    shape: [usize; 3],
    warnings: &mut Vec<String>,
) -> Result<(Affine, AffineChoice), HeaderError> {
    let unit_to_mm = unit_to_mm(raw.xyzt_units, warnings);
    let sizes = voxel_sizes(raw)?;
    let to_mm = Affine::scaling([unit_to_mm; 3]);
    let sform = (raw.sform_code > 0).then(|| to_mm.after(&sform(raw)));
    let qform = match (raw.qform_code > 0).then(|| qform(raw, sizes)) {
        None => None,
        Some(Ok(qform)) => Some(to_mm.after(&qform)),
        // Files exist whose qform was never filled in.
        Some(Err(error)) if sform.is_some() => {
            warnings.push(format!("{error}: only the sform can be used"));
            None
        }
        Some(Err(error)) => return Err(error),
    };
    let (affine, taken) = match (sform, qform) {
        (Some(sform), _) => (sform, "sform"),
        (None, Some(qform)) => (qform, "qform"),
        (None, None) => {
            warnings.push(
                "neither sform nor qform is set: the voxel sizes alone place the volume here; nibabel centres such a volume, ITK and ANTs flip x and y: write an affine into the file".to_owned(),
            );
            (to_mm.after(&Affine::scaling(sizes)), "voxel sizes")
        }
    };
    check_usable(&affine).map_err(|found| HeaderError::Field {
        field: match taken {
            "sform" => "srow_x, srow_y, srow_z",
            "qform" => "pixdim, quatern_x, quatern_y, quatern_z",
            _ => "pixdim",
        },
        found,
        expected: "finite numbers that make an invertible matrix, voxel sizes from 1e-9 to 1e9 mm",
    })?;
    if let (Some(s), Some(q)) = (sform, qform) {
        let distance = Grid {
            shape,
            voxel_to_world: s,
        }
        .difference_vox(&Grid {
            shape,
            voxel_to_world: q,
        });
        if distance > TOLERATED_VOXELS {
            warnings.push(format!(
                "sform and qform differ by up to {distance:.2} voxels: the sform is used here and in nibabel, the qform in ITK and ANTs if the sform code is above 1"
            ));
        }
    }
    Ok((
        affine,
        AffineChoice {
            taken,
            sform,
            qform,
        },
    ))
}

/// Voxel sizes and positions in mm beyond which a header is nonsense. Within, products of three stay
/// far from the ends of `f64`, and results can be written as `f32`.
const SMALLEST_MM: f64 = 1e-9;
const LARGEST_MM: f64 = 1e9;
/// Volume of the cell of three unit vectors along the voxel axes: below, they lie in a plane.
const FLATTEST_CELL: f64 = 1e-6;

/// What is wrong with an affine, if something is.
fn check_usable(affine: &Affine) -> Result<(), String> {
    let rows = affine.rows();
    if !rows.iter().flatten().all(|value| value.is_finite()) {
        return Err("a matrix with a value that is not finite".to_owned());
    }
    let sizes = Grid {
        shape: [1; 3],
        voxel_to_world: *affine,
    }
    .spacing();
    let origin = [rows[0][3], rows[1][3], rows[2][3]];
    if !sizes
        .iter()
        .all(|size| (SMALLEST_MM..=LARGEST_MM).contains(size))
    {
        return Err(format!("a matrix with voxel sizes {sizes:?} mm"));
    }
    if origin.iter().any(|value| value.abs() > LARGEST_MM) {
        return Err(format!("a matrix with origin {origin:?} mm"));
    }
    let determinant = affine.determinant();
    if determinant.abs() < FLATTEST_CELL * sizes.iter().product::<f64>() {
        return Err(format!("a matrix with determinant {determinant:e}"));
    }
    Ok(())
}

/// Lower three bits of `xyzt_units`: 1 metre, 2 millimetre, 3 micrometre.
fn unit_to_mm(code: u8, warnings: &mut Vec<String>) -> f64 {
    match code & 7 {
        1 => 1000.0,
        0 | 2 => 1.0,
        3 => 0.001,
        other => {
            warnings.push(format!(
                "unit code {other} in `xyzt_units` is unknown: taken as millimetres"
            ));
            1.0
        }
    }
}

fn voxel_sizes(raw: &NiftiHeader) -> Result<[f64; 3], HeaderError> {
    let sizes: [f64; 3] = std::array::from_fn(|axis| f64::from(raw.pixdim[axis + 1]));
    // With a valid sform, pixdim is not needed; files exist that leave it at zero.
    let needed = raw.sform_code <= 0;
    if needed && sizes.iter().any(|size| !size.is_finite() || *size <= 0.0) {
        return Err(HeaderError::Field {
            field: "pixdim[1..=3]",
            found: format!("{sizes:?}"),
            expected: "positive numbers",
        });
    }
    Ok(sizes)
}

fn sform(raw: &NiftiHeader) -> Affine {
    let rows = [raw.srow_x, raw.srow_y, raw.srow_z].map(|row| row.map(f64::from));
    Affine::from_rows([rows[0], rows[1], rows[2], [0.0, 0.0, 0.0, 1.0]])
}

/// Rotation from the quaternion (a, b, c, d), a ≥ 0, as the NIfTI-1 standard defines it.
fn qform(raw: &NiftiHeader, sizes: [f64; 3]) -> Result<Affine, HeaderError> {
    let [b, c, d] = [raw.quatern_b, raw.quatern_c, raw.quatern_d].map(f64::from);
    let rest = 1.0 - (b * b + c * c + d * d);
    // The standard stores f32: a rotation by 180 degrees gives a square slightly above 1.
    if rest.is_nan() || rest < -1e-5 || sizes.iter().any(|size| *size <= 0.0) {
        return Err(HeaderError::Field {
            field: "quatern_b, quatern_c, quatern_d",
            found: format!("({b}, {c}, {d})"),
            expected: "a vector not longer than 1, with positive pixdim",
        });
    }
    let a = rest.max(0.0).sqrt();
    let rotation = [
        [
            a * a + b * b - c * c - d * d,
            2.0 * (b * c - a * d),
            2.0 * (b * d + a * c),
        ],
        [
            2.0 * (b * c + a * d),
            a * a + c * c - b * b - d * d,
            2.0 * (c * d - a * b),
        ],
        [
            2.0 * (b * d - a * c),
            2.0 * (c * d + a * b),
            a * a + d * d - b * b - c * c,
        ],
    ];
    // qfac: anything but -1 means 1.
    let flip = if raw.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let scale = [sizes[0], sizes[1], sizes[2] * flip];
    let linear = rotation.map(|row| std::array::from_fn(|axis| row[axis] * scale[axis]));
    let origin = [raw.quatern_x, raw.quatern_y, raw.quatern_z].map(f64::from);
    Ok(Affine::from_parts(linear, origin))
}

/// Quaternion (b, c, d), qfac and voxel sizes of an affine without shear; `None` with shear.
pub(super) fn to_quaternion(affine: &Affine) -> Option<([f64; 3], f64, [f64; 3])> {
    let linear = affine.linear();
    let sizes: [f64; 3] = std::array::from_fn(|axis| {
        (0..3)
            .map(|row| linear[row][axis].powi(2))
            .sum::<f64>()
            .sqrt()
    });
    let qfac = if affine.determinant() < 0.0 {
        -1.0
    } else {
        1.0
    };
    let mut r = linear.map(|row| std::array::from_fn::<f64, 3, _>(|axis| row[axis] / sizes[axis]));
    for row in &mut r {
        row[2] *= qfac;
    }
    for first in 0..3 {
        for second in 0..first {
            let dot: f64 = (0..3).map(|row| r[row][first] * r[row][second]).sum();
            if dot.abs() > 1e-5 {
                return None;
            }
        }
    }
    // The largest of the four squares is divided by, so that nothing small is in a denominator.
    let trace = r[0][0] + r[1][1] + r[2][2];
    let (a, b, c, d);
    if trace > 0.0 {
        a = 0.5 * (1.0 + trace).sqrt();
        b = 0.25 * (r[2][1] - r[1][2]) / a;
        c = 0.25 * (r[0][2] - r[2][0]) / a;
        d = 0.25 * (r[1][0] - r[0][1]) / a;
    } else if r[0][0] >= r[1][1] && r[0][0] >= r[2][2] {
        b = 0.5 * (1.0 + r[0][0] - r[1][1] - r[2][2]).sqrt();
        a = 0.25 * (r[2][1] - r[1][2]) / b;
        c = 0.25 * (r[0][1] + r[1][0]) / b;
        d = 0.25 * (r[0][2] + r[2][0]) / b;
    } else if r[1][1] >= r[2][2] {
        c = 0.5 * (1.0 + r[1][1] - r[0][0] - r[2][2]).sqrt();
        a = 0.25 * (r[0][2] - r[2][0]) / c;
        b = 0.25 * (r[0][1] + r[1][0]) / c;
        d = 0.25 * (r[1][2] + r[2][1]) / c;
    } else {
        d = 0.5 * (1.0 + r[2][2] - r[0][0] - r[1][1]).sqrt();
        a = 0.25 * (r[1][0] - r[0][1]) / d;
        b = 0.25 * (r[0][2] + r[2][0]) / d;
        c = 0.25 * (r[1][2] + r[2][1]) / d;
    }
    let sign = if a < 0.0 { -1.0 } else { 1.0 };
    Some(([b * sign, c * sign, d * sign], qfac, sizes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oblique(flip: f64) -> Affine {
        // Rotation by 30 degrees about z, then by 50 about x, with anisotropic voxels.
        let (c1, s1) = (30_f64.to_radians().cos(), 30_f64.to_radians().sin());
        let (c2, s2) = (50_f64.to_radians().cos(), 50_f64.to_radians().sin());
        let rotation = [
            [c1, -s1, 0.0],
            [c2 * s1, c2 * c1, -s2],
            [s2 * s1, s2 * c1, c2],
        ];
        let sizes = [0.1 * flip, 0.2, 0.35];
        Affine::from_parts(
            rotation.map(|row| std::array::from_fn(|axis| row[axis] * sizes[axis])),
            [4.0, -5.0, 6.0],
        )
    }

    fn header(affine: &Affine) -> NiftiHeader {
        let (q, qfac, sizes) = to_quaternion(affine).unwrap();
        let rows = affine.rows();
        let sizes = sizes.map(|size| size as f32);
        NiftiHeader {
            pixdim: [
                qfac as f32,
                sizes[0],
                sizes[1],
                sizes[2],
                0.0,
                0.0,
                0.0,
                0.0,
            ],
            qform_code: 1,
            sform_code: 0,
            quatern_b: q[0] as f32,
            quatern_c: q[1] as f32,
            quatern_d: q[2] as f32,
            quatern_x: rows[0][3] as f32,
            quatern_y: rows[1][3] as f32,
            quatern_z: rows[2][3] as f32,
            xyzt_units: 2,
            ..NiftiHeader::default()
        }
    }

    fn close(a: &Affine, b: &Affine) -> bool {
        a.rows()
            .iter()
            .flatten()
            .zip(b.rows().iter().flatten())
            .all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn quaternions_survive_the_round_trip_also_with_a_flip() {
        let half_turn = Affine::from_parts(
            [[-0.5, 0.0, 0.0], [0.0, -0.5, 0.0], [0.0, 0.0, 0.5]],
            [0.0; 3],
        );
        for affine in [oblique(1.0), oblique(-1.0), half_turn] {
            let (found, choice) = choose(&header(&affine), [2, 2, 2], &mut Vec::new()).unwrap();
            assert!(close(&found, &affine), "{found:?} {affine:?}");
            assert_eq!(choice.taken, "qform");
        }
    }

    #[test]
    fn the_sform_wins_and_a_difference_is_warned_of() {
        let mut raw = header(&oblique(1.0));
        raw.sform_code = 2;
        (raw.srow_x, raw.srow_y, raw.srow_z) = (
            [1.0, 0.0, 0.0, 7.0],
            [0.0, 1.0, 0.0, 8.0],
            [0.0, 0.0, 1.0, 9.0],
        );
        let mut warnings = Vec::new();
        let (found, choice) = choose(&raw, [2, 2, 2], &mut warnings).unwrap();
        assert_eq!(choice.taken, "sform");
        assert_eq!(found.apply([0.0; 3]), [7.0, 8.0, 9.0]);
        assert!(warnings[0].contains("differ"), "{warnings:?}");
    }

    #[test]
    fn micrometres_and_metres_become_millimetres() {
        for (code, factor) in [(1, 1000.0), (3, 0.001), (0, 1.0), (10, 1.0)] {
            let mut raw = header(&Affine::scaling([50.0; 3]));
            raw.xyzt_units = code;
            let (found, _) = choose(&raw, [2, 2, 2], &mut Vec::new()).unwrap();
            assert!((found.rows()[0][0] - 50.0 * factor).abs() < 1e-9);
        }
    }

    #[test]
    fn impossible_geometry_is_refused_by_name() {
        let mut raw = header(&oblique(1.0));
        raw.quatern_b = 3.0;
        assert!(
            choose(&raw, [2; 3], &mut Vec::new())
                .unwrap_err()
                .to_string()
                .contains("quatern_b")
        );
        let mut raw = header(&oblique(1.0));
        raw.pixdim[2] = 0.0;
        assert!(
            choose(&raw, [2; 3], &mut Vec::new())
                .unwrap_err()
                .to_string()
                .contains("pixdim")
        );
        let mut raw = header(&oblique(1.0));
        raw.sform_code = 1;
        raw.srow_x = [f32::NAN; 4];
        assert!(
            choose(&raw, [2; 3], &mut Vec::new())
                .unwrap_err()
                .to_string()
                .contains("srow_x")
        );
    }
}
