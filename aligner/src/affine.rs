//! Affine maps of space: 4×4 homogeneous matrices in f64.

/// A map of points, `y = M·x + t`, as a row-major homogeneous matrix with last row 0 0 0 1.
///
/// Names of values say what maps to what: `voxel_to_world`, `fixed_to_moving`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine([[f64; 4]; 4]);

impl Affine {
    /// The map that moves nothing.
    pub const IDENTITY: Self = Self([
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ]);

    /// From rows; the last row is replaced by 0 0 0 1.
    pub fn from_rows(rows: [[f64; 4]; 4]) -> Self {
        Self([rows[0], rows[1], rows[2], [0.0, 0.0, 0.0, 1.0]])
    }

    /// From the linear part (row-major) and the translation.
    pub fn from_parts(linear: [[f64; 3]; 3], translation: [f64; 3]) -> Self {
        let mut affine = Self::IDENTITY;
        for row in 0..3 {
            affine.0[row][..3].copy_from_slice(&linear[row]);
            affine.0[row][3] = translation[row];
        }
        affine
    }

    /// Scales each axis.
    pub fn scaling(factors: [f64; 3]) -> Self {
        let mut affine = Self::IDENTITY;
        for axis in 0..3 {
            affine.0[axis][axis] = factors[axis];
        }
        affine
    }

    /// Moves by a vector.
    pub fn translation(by: [f64; 3]) -> Self {
        let mut affine = Self::IDENTITY;
        for axis in 0..3 {
            affine.0[axis][3] = by[axis];
        }
        affine
    }

    /// Rows of the homogeneous matrix.
    pub fn rows(&self) -> [[f64; 4]; 4] {
        self.0
    }

    /// The linear part, row-major.
    pub fn linear(&self) -> [[f64; 3]; 3] {
        std::array::from_fn(|row| std::array::from_fn(|column| self.0[row][column]))
    }

    /// `self ∘ first`: applies `first`, then `self`.
    #[must_use]
    pub fn after(&self, first: &Self) -> Self {
        let mut product = [[0.0; 4]; 4];
        for (row, out) in product.iter_mut().enumerate() {
            for (column, value) in out.iter_mut().enumerate() {
                *value = (0..4).map(|k| self.0[row][k] * first.0[k][column]).sum();
            }
        }
        Self(product)
    }

    /// Image of a point.
    pub fn apply(&self, p: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|row| {
            let m = &self.0[row];
            m[0] * p[0] + m[1] * p[1] + m[2] * p[2] + m[3]
        })
    }

    /// Image of a vector: the linear part only.
    pub fn apply_vector(&self, v: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|row| {
            let m = &self.0[row];
            m[0] * v[0] + m[1] * v[1] + m[2] * v[2]
        })
    }

    /// Determinant of the linear part.
    pub fn determinant(&self) -> f64 {
        alignment_api::determinant3(&self.0)
    }

    /// The inverse map; `None` if the matrix is singular or not finite.
    pub fn inverse(&self) -> Option<Self> {
        let m = &self.0;
        let determinant = self.determinant();
        if !determinant.is_finite() || determinant == 0.0 {
            return None;
        }
        let cofactor = |row: usize, column: usize| {
            let (r0, r1) = ((row + 1) % 3, (row + 2) % 3);
            let (c0, c1) = ((column + 1) % 3, (column + 2) % 3);
            m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0]
        };
        let linear: [[f64; 3]; 3] = std::array::from_fn(|row| {
            std::array::from_fn(|column| cofactor(column, row) / determinant)
        });
        let inverse = Self::from_parts(linear, [0.0; 3]);
        let back = inverse.apply_vector([m[0][3], m[1][3], m[2][3]]);
        let inverse = Self::from_parts(linear, back.map(|value| -value));
        let finite = inverse.0.iter().flatten().all(|value| value.is_finite());
        finite.then_some(inverse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Affine {
        Affine::from_rows([
            [0.9, -0.3, 0.1, 5.0],
            [0.2, 1.1, -0.4, -7.0],
            [-0.1, 0.3, 0.8, 11.0],
            [0.0, 0.0, 0.0, 1.0],
        ])
    }

    #[test]
    fn a_map_after_its_inverse_moves_nothing() {
        let product = sample().after(&sample().inverse().unwrap());
        for (row, expected) in product.rows().iter().zip(Affine::IDENTITY.rows()) {
            for (value, expected) in row.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn after_applies_the_argument_first() {
        let shift = Affine::translation([1.0, 0.0, 0.0]);
        let scale = Affine::scaling([2.0, 2.0, 2.0]);
        assert_eq!(scale.after(&shift).apply([0.0; 3]), [2.0, 0.0, 0.0]);
    }

    #[test]
    fn a_singular_map_has_no_inverse() {
        assert!(Affine::scaling([1.0, 0.0, 1.0]).inverse().is_none());
        assert!(Affine::scaling([1.0, f64::NAN, 1.0]).inverse().is_none());
    }
}
