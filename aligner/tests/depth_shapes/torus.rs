//! A torus: its depth has no closed form, but only two coordinates.
//!
//! With the distance r from the ring's centre line and the angle φ around it (0 away from the axis),
//! the harmonic function solves ∂(r h ∂L/∂r)/∂r + ∂((h/r) ∂L/∂φ)/∂φ = 0, h = R + r cos φ. Its
//! streamlines are followed from the pial to the white surface, dφ/dr = L_φ / (r² L_r) and
//! dW/dr = 1 / L_r; depth is W over its whole. Halving all steps changes the
//! errors found by less than 1e-5.

use std::sync::LazyLock;

/// Radius of the ring's centre line in mm.
const RING: f64 = 6.5;
/// Radius of the white surface around it in mm.
const INNER: f64 = 1.5;
/// Radius of the pial surface in mm.
const OUTER: f64 = 4.0;
/// Edges of a box around it in mm.
pub(super) const EXTENT: [f64; 3] = [22.0, 22.0, 9.0];

/// Steps from the pial to the white surface.
const RADII: usize = 160;
/// Steps from the outside of the ring to its inside.
const ANGLES: usize = 96;
/// Distance of two radii in mm.
const DR: f64 = (OUTER - INNER) / RADII as f64;
/// Distance of two angles.
const DA: f64 = std::f64::consts::PI / ANGLES as f64;

/// A value at each radius, from the pial surface inwards, and angle.
type Table = Vec<[f64; ANGLES + 1]>;

static DEPTH: LazyLock<Table> = LazyLock::new(|| depths(&slopes(&harmonic())));

/// Depth at a point in mm, the ring's axis along z: below 0 in CSF, above 1 in white matter.
pub(super) fn depth(p: [f64; 3]) -> f64 {
    let across = p[0].hypot(p[1]) - RING;
    let (r, angle) = (across.hypot(p[2]), p[2].abs().atan2(across));
    if r > OUTER {
        return -1.0;
    }
    if r < INNER {
        return 2.0;
    }
    let row = (OUTER - r) / DR;
    let below = (row as usize).min(RADII - 1);
    let share = row - below as f64;
    let at = |row: usize| interpolate(&DEPTH[row], angle);
    at(below) * (1.0 - share) + at(below + 1) * share
}

fn radius(row: usize) -> f64 {
    OUTER - DR * row as f64
}

/// Linear between angles; even at both ends.
fn interpolate(values: &[f64; ANGLES + 1], angle: f64) -> f64 {
    let place = angle.abs() / DA;
    let below = (place as usize).min(ANGLES - 1);
    let share = place - below as f64;
    values[below] * (1.0 - share) + values[below + 1] * share
}

/// L: 0 on the pial surface, 1 on the white one; by over-relaxation.
fn harmonic() -> Table {
    let mut values: Table = (0..=RADII)
        .map(|row| [row as f64 / RADII as f64; ANGLES + 1])
        .collect();
    let h = |r: f64, angle: f64| RING + r * angle.cos();
    let omega = 2.0 / (1.0 + (std::f64::consts::PI / RADII as f64).sin());
    for _ in 0..12 * RADII {
        for row in 1..RADII {
            let r = radius(row);
            for column in 0..=ANGLES {
                let angle = DA * column as f64;
                let radial = |to: f64| to * h(to, angle) / (DR * DR);
                let around = |to: f64| h(r, to) / (r * DA * DA);
                // Both ends are planes of symmetry.
                let (left, right) = match column {
                    0 => (1, 1),
                    ANGLES => (ANGLES - 1, ANGLES - 1),
                    _ => (column - 1, column + 1),
                };
                let ties = [
                    (radial(r + 0.5 * DR), values[row - 1][column]),
                    (radial(r - 0.5 * DR), values[row + 1][column]),
                    (around(angle - 0.5 * DA), values[row][left]),
                    (around(angle + 0.5 * DA), values[row][right]),
                ];
                let weights: f64 = ties.iter().map(|tie| tie.0).sum();
                let sum: f64 = ties.iter().map(|(weight, value)| weight * value).sum();
                values[row][column] += omega * (sum / weights - values[row][column]);
            }
        }
    }
    values
}

/// ∂L/∂r and ∂L/∂φ.
fn slopes(values: &Table) -> [Table; 2] {
    let mut radial = values.clone();
    let mut around = values.clone();
    for row in 0..=RADII {
        for column in 0..=ANGLES {
            let at = |row: usize| values[row][column];
            radial[row][column] = match row {
                0 => (3.0 * at(0) - 4.0 * at(1) + at(2)) / (2.0 * DR),
                RADII => (4.0 * at(RADII - 1) - 3.0 * at(RADII) - at(RADII - 2)) / (2.0 * DR),
                _ => (at(row - 1) - at(row + 1)) / (2.0 * DR),
            };
            around[row][column] = match column {
                0 | ANGLES => 0.0,
                _ => (values[row][column + 1] - values[row][column - 1]) / (2.0 * DA),
            };
        }
    }
    [radial, around]
}

/// Depth at each radius and angle, from streamlines that start at each angle of the pial surface.
fn depths([radial, around]: &[Table; 2]) -> Table {
    let lines: Vec<Vec<(f64, f64)>> = (0..=ANGLES)
        .map(|column| follow(radial, around, DA * column as f64))
        .collect();
    let mut table = radial.clone();
    for (row, depths) in table.iter_mut().enumerate() {
        for (column, depth) in depths.iter_mut().enumerate() {
            let angle = DA * column as f64;
            let after = lines
                .partition_point(|line| line[row].0 < angle)
                .clamp(1, ANGLES);
            let share_at = |line: &[(f64, f64)]| (line[row].0, line[row].1 / line[RADII].1);
            let (before, next) = (share_at(&lines[after - 1]), share_at(&lines[after]));
            let share = (angle - before.0) / (next.0 - before.0);
            *depth = before.1 * (1.0 - share) + next.1 * share;
        }
    }
    table
}

/// Angle and W at each radius of a streamline; Heun's method.
fn follow(radial: &Table, around: &Table, start: f64) -> Vec<(f64, f64)> {
    let slope = |row: usize, angle: f64| {
        let (along, across) = (
            interpolate(&radial[row], angle),
            interpolate(&around[row], angle),
        );
        let r = radius(row);
        (across / (r * r * along), 1.0 / along)
    };
    let mut line = vec![(start, 0.0)];
    let (mut angle, mut volume) = (start, 0.0);
    for row in 0..RADII {
        let first = slope(row, angle);
        let second = slope(row + 1, angle - DR * first.0);
        angle -= 0.5 * DR * (first.0 + second.0);
        volume -= 0.5 * DR * (first.1 + second.1);
        line.push((angle, volume));
    }
    line
}
