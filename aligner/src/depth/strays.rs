//! Labels that contradict their surroundings, and how they change sides.
//!
//! Which they are is found where the surfaces are, in [`super::boundary`].

use super::boundary::{Crossing, crossing};
use super::columns::Point;
use super::components::{CSF, GREY, WHITE};
use super::sheet::{Sheet, neighbour, neighbours, position};

/// A voxel whose label says that it lies on one side of a surface, its surroundings that it lies on the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stray {
    /// Flat index.
    pub(super) voxel: u32,
    /// [`CSF`] or [`WHITE`], whose surface it is.
    pub(super) tissue: u8,
    /// The label: grey, or `tissue`.
    pub(super) is_grey: bool,
}

/// The smoothed mask of a tissue, less ½, at a voxel and in its six directions.
#[derive(Clone, Copy)]
pub(super) struct Around {
    pub(super) here: f32,
    pub(super) near: [f32; 6],
}

/// Lets the strays change sides in `state`, and puts the crossings on their edges in place of those that were
/// there. Some may be named more than once. Returns each that did, by ascending voxel.
pub(super) fn apply(
    strays: Vec<(Stray, Around)>,
    state: &mut [u8],
    shape: [usize; 3],
    crossings: &mut Vec<Crossing>,
) -> Vec<Stray> {
    let strays = settle(strays);
    if !strays.is_empty() {
        change_sides(state, &strays);
        crossings.retain(|crossing| {
            let tissue = if crossing.white { WHITE } else { CSF };
            let other = neighbour(shape, crossing.voxel as usize, crossing.direction);
            state[crossing.voxel as usize] == GREY && state[other] == tissue
        });
        crossings.extend(crossings_of(&strays, state, shape));
    }
    strays.into_iter().map(|(stray, _)| stray).collect()
}

/// Each stray once, by ascending voxel; none that both surfaces claim.
fn settle(mut strays: Vec<(Stray, Around)>) -> Vec<(Stray, Around)> {
    strays.sort_unstable_by_key(|(stray, _)| (stray.voxel, stray.tissue));
    strays.dedup_by_key(|(stray, _)| (stray.voxel, stray.tissue));
    let of = |index: usize| strays.get(index).map(|(stray, _)| stray.voxel);
    let alone = |&index: &usize| {
        let before = index.checked_sub(1).and_then(of);
        of(index) != before && of(index) != of(index + 1)
    };
    (0..strays.len())
        .filter(alone)
        .map(|index| strays[index])
        .collect()
}

fn change_sides(state: &mut [u8], strays: &[(Stray, Around)]) {
    for (stray, _) in strays {
        state[stray.voxel as usize] = if stray.is_grey { stray.tissue } else { GREY };
    }
}

/// The crossings on the edges of strays, which have changed sides in `state`.
fn crossings_of(strays: &[(Stray, Around)], state: &[u8], shape: [usize; 3]) -> Vec<Crossing> {
    let is_stray = |voxel: usize| {
        let by_voxel = |(stray, _): &(Stray, Around)| stray.voxel;
        strays
            .binary_search_by_key(&(voxel as u32), by_voxel)
            .is_ok()
    };
    let mut crossings = Vec::new();
    for (stray, around) in strays {
        let voxel = stray.voxel as usize;
        for (direction, other) in neighbours(shape, position(shape, voxel)) {
            let there = around.near[usize::from(direction)];
            let white = stray.tissue == WHITE;
            if stray.is_grey && state[other] == GREY {
                crossings.push(Crossing {
                    voxel: other as u32,
                    direction: direction ^ 1,
                    white,
                    distance: crossing(there, around.here),
                });
            } else if !stray.is_grey && state[other] == stray.tissue && !is_stray(other) {
                crossings.push(Crossing {
                    voxel: stray.voxel,
                    direction,
                    white,
                    distance: crossing(around.here, there),
                });
            }
        }
    }
    crossings
}

/// Grey voxels that lie beyond a surface: they have its depth, and what else is known of the columns beside
/// them.
pub(super) fn lend(sheet: &Sheet, points: &[Point], strays: &[Stray]) -> Vec<(u32, Point)> {
    let point = |stray: &Stray| {
        let at = position(sheet.shape, stray.voxel as usize);
        let beside = || {
            let near = neighbours(sheet.shape, at);
            near.filter_map(|(_, voxel)| sheet.number(voxel))
                .map(|number| &points[number])
        };
        let mean = |value: fn(&Point) -> f32| {
            let known = beside().filter(|point| value(point) > 0.0);
            let (count, sum) =
                known.fold((0.0, 0.0), |(n, sum), point| (n + 1.0, sum + value(point)));
            sum / f32::max(count, 1.0)
        };
        let lent = Point {
            depth: f32::from(u8::from(stray.tissue == WHITE)),
            validity: mean(|point| point.validity),
            thickness_mm: mean(|point| point.thickness_mm),
        };
        (stray.voxel, lent)
    };
    strays
        .iter()
        .filter(|stray| stray.is_grey)
        .map(point)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::boundary::{Surfaces, find};
    use super::*;

    /// Grey below x = 12, CSF from there on, with `change` to some voxels.
    fn plane(change: impl Fn([usize; 3]) -> Option<u8>) -> (Vec<u8>, [usize; 3]) {
        let shape = [24, 15, 15];
        let voxel = |flat| {
            let at = position(shape, flat);
            change(at).unwrap_or(if at[0] < 12 { GREY } else { CSF })
        };
        ((0..shape.iter().product()).map(voxel).collect(), shape)
    }

    #[test]
    fn a_bump_and_a_pit_of_one_voxel_are_strays() {
        let (flat, shape) = plane(|_| None);
        let (mut state, _) = plane(|at| match at {
            [12, 4, 7] => Some(GREY),
            [11, 10, 7] => Some(CSF),
            _ => None,
        });
        let Surfaces { crossings, strays } = find(&mut state, shape, [1.0; 3], 12.0);
        assert_eq!(state, flat);
        let stray = |at: [usize; 3], is_grey| Stray {
            voxel: (at[0] + shape[0] * (at[1] + shape[1] * at[2])) as u32,
            tissue: CSF,
            is_grey,
        };
        assert_eq!(strays, [stray([12, 4, 7], true), stray([11, 10, 7], false)]);
        // One on each line along x, as if the labels were flat, bent a little towards the strays.
        assert_eq!(crossings.len(), shape[1] * shape[2]);
        for crossing in crossings {
            assert_eq!(position(shape, crossing.voxel as usize)[0], 11);
            assert_eq!((crossing.direction, crossing.white), (1, false));
            assert!(
                (0.25..0.75).contains(&crossing.distance),
                "{}",
                crossing.distance
            );
        }
    }

    #[test]
    fn every_edge_has_one_crossing_after_strays_have_changed_sides() {
        // Rough: every other voxel along the surface, now on this, now on that side.
        let (mut state, shape) = plane(|[x, y, z]| match (x, (3 * y + 5 * z) % 7) {
            (12, 0 | 3) => Some(GREY),
            (11, 1 | 5) => Some(CSF),
            _ => None,
        });
        let Surfaces { crossings, strays } = find(&mut state, shape, [1.0; 3], 16.0);
        assert!(strays.len() > 50, "{}", strays.len());
        let mut found: Vec<_> = crossings.iter().map(|c| (c.voxel, c.direction)).collect();
        found.sort_unstable();
        let grey = (0..state.len()).filter(|&flat| state[flat] == GREY);
        let expected: Vec<_> = grey
            .flat_map(|flat| {
                let near = neighbours(shape, position(shape, flat));
                near.filter(|near| state[near.1] == CSF)
                    .map(move |(direction, _)| (flat as u32, direction))
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_thin_or_sharp_keeps_its_labels() {
        let cases: [fn([usize; 3]) -> Option<u8>; 3] = [
            // A sulcus of one voxel.
            |at| (at[1] == 7).then_some(CSF),
            // A blade of one voxel.
            |at| (at[1] == 7).then_some(GREY),
            // A ridge.
            |at| (at[0] > 12).then_some(CSF).or((at[1] < 7).then_some(GREY)),
        ];
        for case in cases {
            let (before, shape) = plane(case);
            for thickness in [8.0, 20.0] {
                let mut state = before.clone();
                let surfaces = find(&mut state, shape, [1.0; 3], thickness);
                assert_eq!(surfaces.strays, []);
                assert!(state == before);
            }
        }
    }

    #[test]
    fn an_oblique_sulcus_stays_open_and_an_oblique_blade_whole() {
        // Two voxels in each row along y, in steps; where it meets the corners of the image, what is repeated
        // beyond bends it.
        let thin = |at: [usize; 3]| [14, 15].contains(&(at[1] + at[2]));
        let inner = |at: [usize; 3]| (2..13).contains(&at[1]) && (2..13).contains(&at[2]);
        for tissue in [CSF, GREY] {
            let (before, shape) = plane(|at| thin(at).then_some(tissue));
            for thickness in [8.0, 20.0] {
                let mut state = before.clone();
                find(&mut state, shape, [1.0; 3], thickness);
                let all = (0..state.len()).map(|flat| (position(shape, flat), state[flat]));
                let lost = all.filter(|&(at, now)| thin(at) && inner(at) && now != tissue);
                let lost: Vec<_> = lost.map(|(at, _)| at).collect();
                assert_eq!(lost, [[0; 3]; 0], "{tissue} {thickness}");
            }
        }
    }
}
