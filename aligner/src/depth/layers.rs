//! Layers of equal volume: the depth in steps.

use std::num::NonZero;

use super::{DepthMap, Tissue};
use crate::volume::Volume;

/// Cuts the cortex into `count` layers that hold equal shares of the volume of each column.
///
/// On the grid of `tissues`, of which `map` is the depth: layer 1 at the pial surface to `count` at the
/// white one. 0 outside of grey matter, and where depth is a stand-in (validity 0). Layers by volume
/// are not the layers of an anatomist: they follow these where Bok's rule holds.
pub fn layers(tissues: &Volume<Tissue>, map: &DepthMap, count: NonZero<u8>) -> Volume<u8> {
    let mut layers = Volume::filled(tissues.grid, 0);
    let known = map.depth.values().iter().zip(map.validity.values());
    let voxels = tissues.values().iter().zip(known);
    for (layer, (&tissue, (&depth, &validity))) in layers.values_mut().iter_mut().zip(voxels) {
        if tissue == Tissue::Grey && validity > 0.0 {
            let below = (depth * f32::from(count.get())) as u8;
            *layer = below.min(count.get() - 1) + 1;
        }
    }
    layers
}
