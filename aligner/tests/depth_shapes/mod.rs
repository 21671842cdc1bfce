//! Cortical sheets with a known equivolumetric depth, sampled on grids at any resolution.

mod torus;

use aligner::affine::Affine;
use aligner::depth::{DepthMap, Tissue};
use aligner::grid::Grid;
use aligner::volume::Volume;

/// Thickness of every sheet in mm.
pub(crate) const THICKNESS: f64 = 2.5;

/// Edge of the imaged cubes in mm: a closed shell just fits, the other shapes are cut.
const EDGE: f64 = 4.5 * THICKNESS;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Oblique plane sheet; cut by every face of the image.
    Slab,
    /// Closed shell of 2.5 to 5 mm around white matter.
    Convex,
    /// The same shell with white matter outside.
    Concave,
    /// The convex shell, of which the image shows the part around one diagonal.
    Octant,
    /// Oblique tube of 2.5 to 5 mm around white matter; its ends are cut.
    Cylinder,
    /// Oblique gyrus and sulcus; cut by the image.
    Fold,
    /// Closed ring of a tube of 1.5 to 4 mm around white matter; its plane is one of the lattice.
    Torus,
    /// The same, oblique.
    ObliqueTorus,
}

/// Rows of a rotation with no simple angles.
const OBLIQUE: [[f64; 3]; 3] = rotation();

/// A rotation from a quaternion, in exact arithmetic up to rounding.
const fn rotation() -> [[f64; 3]; 3] {
    let (w, x, y, z) = (0.83, 0.23, -0.37, 0.31);
    let n = w * w + x * x + y * y + z * z;
    [
        [
            1.0 - 2.0 * (y * y + z * z) / n,
            2.0 * (x * y - z * w) / n,
            2.0 * (x * z + y * w) / n,
        ],
        [
            2.0 * (x * y + z * w) / n,
            1.0 - 2.0 * (x * x + z * z) / n,
            2.0 * (y * z - x * w) / n,
        ],
        [
            2.0 * (x * z - y * w) / n,
            2.0 * (y * z + x * w) / n,
            1.0 - 2.0 * (x * x + y * y) / n,
        ],
    ]
}

impl Shape {
    /// Depth at a point in mm from the centre: below 0 in CSF, above 1 in white matter.
    pub(crate) fn depth(self, point: [f64; 3]) -> f64 {
        // Off the lattice, so that no symmetry helps.
        let shift = [0.0137, -0.0291, 0.0413];
        let p: [f64; 3] = std::array::from_fn(|a| point[a] - shift[a]);
        let q: [f64; 3] = std::array::from_fn(|row| (0..3).map(|a| OBLIQUE[row][a] * p[a]).sum());
        let (inner, outer) = (THICKNESS, 2.0 * THICKNESS);
        let share = |radius: f64, power: i32| {
            (outer.powi(power) - radius.powi(power)) / (outer.powi(power) - inner.powi(power))
        };
        let norm = |v: &[f64]| v.iter().map(|c| c * c).sum::<f64>().sqrt();
        match self {
            Self::Slab => q[0] / THICKNESS + 0.5,
            Self::Convex => share(norm(&p), 3),
            Self::Octant => share(norm(&p.map(|c| c + 0.5 * EDGE)), 3),
            Self::Concave => 1.0 - share(norm(&p), 3),
            Self::Cylinder => share(norm(&q[..2]), 2),
            Self::Fold => fold(q[0], q[1]),
            Self::Torus => torus::depth(p),
            Self::ObliqueTorus => torus::depth(q),
        }
    }

    /// Edges of the imaged box in mm.
    fn extent(self) -> [f64; 3] {
        match self {
            Self::Torus => torus::EXTENT,
            Self::ObliqueTorus => [torus::EXTENT[0]; 3],
            _ => [EDGE; 3],
        }
    }

    fn grid(self, per_thickness: usize, ratio: [f64; 3]) -> Grid {
        let spacing = ratio.map(|factor| factor * THICKNESS / per_thickness as f64);
        let extent = self.extent();
        Grid {
            shape: std::array::from_fn(|a| (extent[a] / spacing[a]).round() as usize),
            voxel_to_world: Affine::scaling(spacing),
        }
    }

    /// The depth at each voxel centre of a grid, moved by `moved` voxels.
    fn depth_at(self, grid: &Grid, index: (usize, usize, usize), moved: [f64; 3]) -> f64 {
        let (index, spacing) = ([index.0, index.1, index.2], grid.spacing());
        self.depth(std::array::from_fn(|a| {
            let centre = 0.5 * (grid.shape[a] as f64 - 1.0);
            (index[a] as f64 + moved[a] - centre) * spacing[a]
        }))
    }

    /// The labels alone of [`Self::sample`].
    pub(crate) fn labels(self, per_thickness: usize, ratio: [f64; 3]) -> Volume<Tissue> {
        let grid = self.grid(per_thickness, ratio);
        Volume::from_fn(grid, |index| tissue(self.depth_at(&grid, index, [0.0; 3])))
    }

    /// The sheet with noisy labels: each voxel takes the tissue of a point up to half a voxel away along
    /// each axis.
    pub(crate) fn noisy(self, per_thickness: usize, seed: u64) -> Sample {
        let mut sample = self.sample(per_thickness, [1.0; 3]);
        let grid = sample.labels.grid;
        let mut state = seed;
        // splitmix64
        let mut uniform = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        };
        sample.labels = Volume::from_fn(grid, |index| {
            let moved = [uniform(), uniform(), uniform()];
            tissue(self.depth_at(&grid, index, moved))
        });
        sample
    }

    /// The sheet on a grid with voxels of `ratio`·thickness/`per_thickness`.
    pub(crate) fn sample(self, per_thickness: usize, ratio: [f64; 3]) -> Sample {
        let grid = self.grid(per_thickness, ratio);
        let truth = Volume::from_fn(grid, |index| self.depth_at(&grid, index, [0.0; 3]));
        let labels = truth.map(tissue);
        Sample { truth, labels }
    }
}

fn tissue(depth: f64) -> Tissue {
    if depth < 0.0 {
        Tissue::Csf
    } else if depth > 1.0 {
        Tissue::White
    } else {
        Tissue::Grey
    }
}

/// A conformal fold: z = w + i c cos(k w) maps the flat sheet |Im w| < T/2 to one with gyri, sulci
/// and varying thickness, and harmonic functions to harmonic functions. Volume between two level
/// sets is ∫|dz/dw|² dv.
fn fold(x: f64, y: f64) -> f64 {
    let half = THICKNESS / 2.0;
    let k = 1.2 / THICKNESS;
    let c = 1.2 / k;
    // x grows with u on each level line v, so that u is unique.
    let u_at = |v: f64| {
        let sway = c * (k * v).sinh();
        let (mut low, mut high) = (x - sway.abs() - 1e-9, x + sway.abs() + 1e-9);
        let mut u = x;
        for _ in 0..60 {
            let error = u + sway * (k * u).sin() - x;
            if error > 0.0 {
                high = high.min(u);
            } else {
                low = low.max(u);
            }
            if error.abs() < 1e-12 {
                break;
            }
            let newton = u - error / (1.0 + k * sway * (k * u).cos());
            u = if newton > low && newton < high {
                newton
            } else {
                0.5 * (low + high)
            };
        }
        u
    };
    let y_at = |v: f64, u: f64| v + c * (k * u).cos() * (k * v).cosh();
    if y < y_at(-half, u_at(-half)) {
        return -1.0;
    }
    if y > y_at(half, u_at(half)) {
        return 2.0;
    }
    // At fixed x, y grows with v.
    let (mut low, mut high) = (-half, half);
    for _ in 0..34 {
        let v = 0.5 * (low + high);
        if y_at(v, u_at(v)) < y {
            low = v;
        } else {
            high = v;
        }
    }
    let v = 0.5 * (low + high);
    let u = u_at(v);
    let volume = |v: f64| {
        let (cos, sin) = ((k * u).cos(), (k * u).sin());
        let ck = c * k;
        v + 2.0 * c * cos * (k * v).cosh()
            + ck * ck * ((2.0 * k * v).sinh() / (4.0 * k) - 0.5 * v + v * sin * sin)
    };
    (volume(v) - volume(-half)) / (volume(half) - volume(-half))
}

pub(crate) struct Sample {
    /// Depth, beyond 0..1 outside of grey matter.
    pub(crate) truth: Volume<f64>,
    pub(crate) labels: Volume<Tissue>,
}

/// Absolute errors of depth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errors {
    pub(crate) mean: f64,
    pub(crate) p95: f64,
}

/// Which grey voxels to score.
#[derive(Clone, Copy)]
pub(crate) enum Where {
    All,
    /// Further than the thickness from every face of the image.
    Core,
    /// With at least this validity.
    Valid(f32),
}

impl Sample {
    pub(crate) fn errors(&self, map: &DepthMap, which: Where) -> Errors {
        self.errors_of(&map.depth, &map.validity, which)
    }

    /// Errors of a depth with this validity.
    pub(crate) fn errors_of(
        &self,
        depth: &Volume<f32>,
        validity: &Volume<f32>,
        which: Where,
    ) -> Errors {
        let grid = self.labels.grid;
        let spacing = grid.spacing();
        let mut errors: Vec<f64> = Vec::new();
        for (flat, &tissue) in self.labels.values().iter().enumerate() {
            if tissue != Tissue::Grey {
                continue;
            }
            let at = [
                flat % grid.shape[0],
                flat / grid.shape[0] % grid.shape[1],
                flat / (grid.shape[0] * grid.shape[1]),
            ];
            let scored = match which {
                Where::All => true,
                Where::Core => (0..3).all(|a| {
                    let voxels = at[a].min(grid.shape[a] - 1 - at[a]) as f64 + 0.5;
                    voxels * spacing[a] > THICKNESS
                }),
                Where::Valid(least) => validity.values()[flat] >= least,
            };
            if scored {
                errors.push(
                    (f64::from(depth.values()[flat]) - self.truth.values()[flat].clamp(0.0, 1.0))
                        .abs(),
                );
            }
        }
        assert!(!errors.is_empty());
        errors.sort_by(f64::total_cmp);
        Errors {
            mean: errors.iter().sum::<f64>() / errors.len() as f64,
            p95: errors[(errors.len() - 1) * 95 / 100],
        }
    }
}
