//! Chains of transforms: affine maps and displacement fields, applied to points one after another.

use crate::{affine::Affine, field::DisplacementField};

/// One link of a chain.
#[derive(Debug)]
pub enum Link<'a> {
    /// An affine map of world positions (RAS mm).
    Affine(Affine),
    /// `x ↦ x + u(x)`.
    Field(&'a DisplacementField),
    /// The inverse of `x ↦ x + u(x)`, found point by point.
    InverseField(&'a DisplacementField),
}

/// Transforms applied in order: the first link first. World positions, RAS mm.
#[derive(Debug, Default)]
pub struct Chain<'a> {
    links: Vec<(Link<'a>, Affine)>,
}

/// Fixed-point iterations of a point-wise inverse; a fold-free field needs far fewer.
const INVERSE_ITERATIONS: usize = 60;
/// Accuracy of a point-wise inverse, in voxels of the field.
const INVERSE_TOLERANCE: f64 = 1e-4;

impl<'a> Chain<'a> {
    /// Adds a link behind the others. A field on a grid with a singular affine is never made:
    /// readers refuse such headers; it would count as moving nothing.
    #[must_use]
    pub fn then(mut self, link: Link<'a>) -> Self {
        let to_voxel = match &link {
            Link::Affine(_) => Affine::IDENTITY,
            Link::Field(field) | Link::InverseField(field) => field
                .grid
                .voxel_to_world
                .inverse()
                .unwrap_or(Affine::IDENTITY),
        };
        self.links.push((link, to_voxel));
        self
    }

    /// The chain that undoes this one; `None` if an affine is singular.
    pub fn inverse(self) -> Option<Self> {
        let mut links = Vec::with_capacity(self.links.len());
        for (link, to_voxel) in self.links.into_iter().rev() {
            let link = match link {
                Link::Affine(affine) => Link::Affine(affine.inverse()?),
                Link::Field(field) => Link::InverseField(field),
                Link::InverseField(field) => Link::Field(field),
            };
            links.push((link, to_voxel));
        }
        Some(Self { links })
    }

    /// Image of a point.
    pub fn apply(&self, point: [f64; 3]) -> [f64; 3] {
        self.links
            .iter()
            .fold(point, |point, (link, to_voxel)| match link {
                Link::Affine(affine) => affine.apply(point),
                Link::Field(field) => add(point, displacement(field, to_voxel, point)),
                Link::InverseField(field) => invert(field, to_voxel, point),
            })
    }
}

fn add(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// The field's vector at a world position: trilinear, that of the border outside.
fn displacement(field: &DisplacementField, to_voxel: &Affine, point: [f64; 3]) -> [f64; 3] {
    let cell = crate::resample::Cell::clamped(to_voxel.apply(point), field.grid.shape);
    std::array::from_fn(|axis| cell.linear(&field.components[axis]))
}

/// Solves x + u(x) = y by the fixed-point iteration x ← y − u(x).
fn invert(field: &DisplacementField, to_voxel: &Affine, y: [f64; 3]) -> [f64; 3] {
    let tolerance = INVERSE_TOLERANCE * field.grid.mean_spacing();
    let mut x = y;
    for _ in 0..INVERSE_ITERATIONS {
        let u = displacement(field, to_voxel, x);
        let next: [f64; 3] = std::array::from_fn(|axis| y[axis] - u[axis]);
        let moved = (0..3)
            .map(|axis| (next[axis] - x[axis]).abs())
            .fold(0.0, f64::max);
        x = next;
        if moved < tolerance {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    fn wave() -> DisplacementField {
        let grid = Grid {
            shape: [20, 20, 20],
            voxel_to_world: Affine::scaling([0.5; 3]),
        };
        let mut field = DisplacementField::zero(grid);
        for (index, value) in field.components[0].iter_mut().enumerate() {
            let y = (index / 20) % 20;
            *value = (0.3 * libm::sin(y as f64 * 0.4)) as f32;
        }
        field.components[1].fill(0.25);
        field
    }

    #[test]
    fn a_chain_and_its_inverse_cancel() {
        let field = wave();
        let affine = Affine::from_parts(
            [[1.1, 0.1, 0.0], [0.0, 0.9, 0.2], [0.0, 0.0, 1.0]],
            [3.0, 2.0, 1.0],
        );
        let chain = Chain::default()
            .then(Link::Field(&field))
            .then(Link::Affine(affine));
        let there = chain.apply([4.3, 5.1, 4.9]);
        let back = chain.inverse().unwrap().apply(there);
        for (found, expected) in back.into_iter().zip([4.3, 5.1, 4.9]) {
            assert!((found - expected).abs() < 1e-4, "{back:?}");
        }
    }

    #[test]
    fn the_first_link_acts_first() {
        let chain = Chain::default()
            .then(Link::Affine(Affine::translation([1.0, 0.0, 0.0])))
            .then(Link::Affine(Affine::scaling([2.0; 3])));
        assert_eq!(chain.apply([0.0; 3]), [2.0, 0.0, 0.0]);
    }
}
