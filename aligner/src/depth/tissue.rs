//! Tissue classes, and how integer labels become them.

use std::collections::BTreeMap;

use alignment_api::Labels;

use super::error::{DepthError, LabelCounts};
use crate::volume::Volume;

/// Tissue of a voxel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tissue {
    /// Outside of the brain: cerebrospinal fluid, background.
    Csf,
    /// Cortical grey matter.
    Grey,
    /// White matter.
    White,
}

/// Maps the values of a segmentation to tissues; several values may mean the same tissue.
///
/// The result lies on the grid of `labels`.
///
/// # Errors
/// [`DepthError::UnknownLabels`] with every value that `mapping` does not name and its count;
/// [`DepthError::MissingTissue`] with the values that are there if a tissue has no voxel.
pub fn tissues_from_labels(
    labels: &Volume<i32>,
    mapping: &Labels,
) -> Result<Volume<Tissue>, DepthError> {
    let mut known = BTreeMap::new();
    for (values, tissue) in [
        (&mapping.csf, Tissue::Csf),
        (&mapping.grey, Tissue::Grey),
        (&mapping.white, Tissue::White),
    ] {
        known.extend(values.iter().map(|&value| (value, tissue)));
    }
    let mut unknown: BTreeMap<i32, usize> = BTreeMap::new();
    // Labels come in long runs: the last answer nearly always fits again.
    let mut last: Option<(i32, Tissue)> = None;
    let tissues = labels.map(|value| match last {
        Some((same, tissue)) if same == value => tissue,
        _ => {
            let Some(&tissue) = known.get(&value) else {
                *unknown.entry(value).or_default() += 1;
                return Tissue::Csf;
            };
            last = Some((value, tissue));
            tissue
        }
    });
    if !unknown.is_empty() {
        return Err(DepthError::UnknownLabels {
            found: LabelCounts(unknown.into_iter().collect()),
            known: known.into_keys().collect(),
        });
    }
    for (tissue, name, mapped) in [
        (Tissue::Grey, "grey matter", &mapping.grey),
        (Tissue::White, "white matter", &mapping.white),
        (Tissue::Csf, "CSF", &mapping.csf),
    ] {
        if !tissues.values().contains(&tissue) {
            return Err(DepthError::MissingTissue {
                tissue: name,
                mapped: mapped.clone(),
                found: count(labels),
            });
        }
    }
    Ok(tissues)
}

/// How many voxels have each value.
fn count(labels: &Volume<i32>) -> LabelCounts {
    let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
    for &value in labels.values() {
        *counts.entry(value).or_default() += 1;
    }
    LabelCounts(counts.into_iter().collect())
}
