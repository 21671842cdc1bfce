"""Labels of real cortex for the template of a case, and their harmonic depth.

The depth is harmonic, not equivolumetric: the benchmark measures how two depth maps are aligned, and
both sides of a case use the same kind.
"""
import pathlib

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import cg

from fields import apply_affine, grid, sample, values

RIM = pathlib.Path(__file__).parent / "data" / "Ding2016_occip_rim.nii.gz"
CSF, GREY, WHITE = 0, 1, 2


def template(spec):
    """(labels, image or None, affine) of the template of a case."""
    if spec.source == "rim":
        return from_rim(spec.size, spec.voxel, spec.zoom)
    return from_mni(spec.size, spec.voxel, spec.centre)


def from_rim(size, voxel, zoom):
    """A LayNii rim: 1 = outer border, 2 = inner border, 3 = grey matter, 0 = nothing."""
    rim = values(RIM).astype(np.int8)
    labels = np.full(rim.shape, -1, np.int8)
    labels[rim == 1], labels[rim == 2], labels[rim == 3] = CSF, WHITE, GREY
    nearest = ndimage.distance_transform_edt(labels < 0, return_distances=False, return_indices=True)
    labels = labels[tuple(nearest)]
    if zoom != 1:
        points = grid([int(round(n * zoom)) for n in labels.shape]) / zoom
        blur = max(0.5 / zoom, 0.7)
        smooth = [ndimage.gaussian_filter((labels == k).astype(np.float32), blur) for k in range(3)]
        labels = np.argmax([sample(s, points) for s in smooth], axis=0).astype(np.int8)
    low = [max(0, (n - size) // 2) for n in labels.shape]
    labels = labels[tuple(slice(a, a + size) for a in low)]
    pad = [((size - n) // 2, size - n - (size - n) // 2) for n in labels.shape]
    labels = np.pad(labels, pad, mode="edge")
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = [-17.3, -88.1, 4.9]  # anything that is not zero, so that a lost offset shows
    return labels, None, affine


def from_mni(size, voxel, centre):
    """A crop of the MNI152 tissue maps around `centre` (MNI mm).

    Sulci are closed in an average brain: they are opened on the ridge half way between two walls of
    white matter, and grey matter is kept no thicker than 4 mm.
    """
    grey, white, t1 = [nib.load(path) for path in mni_files()]
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = np.array(centre) - voxel * (size - 1) / 2
    points = apply_affine(np.linalg.inv(grey.affine) @ affine, grid((size,) * 3))

    def crop(image, order):
        volume = np.asarray(image.dataobj, np.float32)
        return sample(volume, points, order, mode="constant") / 255

    g, w = crop(grey, 3), crop(white, 3)
    is_white = w > np.maximum(g, 0.3)
    distance = ndimage.distance_transform_edt(~is_white, sampling=voxel)
    smooth = ndimage.gaussian_filter(distance, 0.6 / voxel)
    slope = np.sqrt(sum(k ** 2 for k in np.gradient(smooth, voxel)))
    csf = (g + w < 0.5) | (distance > 4.0) | ((slope < 0.45) & (distance > 1.4))
    labels = np.where(csf & ~is_white, CSF, np.where(is_white, WHITE, GREY)).astype(np.int8)
    return labels, crop(t1, 1), affine


def mni_files():
    import nilearn.datasets
    folder = pathlib.Path(nilearn.datasets.__file__).parent / "data"
    return [folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("gm", "wm", "t1")]


def depth(labels):
    """Harmonic depth of the labels, smoothed by half a voxel: 0 in CSF, 1 in white matter."""
    return np.clip(ndimage.gaussian_filter(laplace(labels), 0.5), 0, 1)


def laplace(labels):
    """Harmonic function in grey matter, 0 on CSF, 1 on white matter (6 neighbours; conjugate
    gradients from the ratio of distances)."""
    grey = labels == GREY
    out = (labels == WHITE).astype(np.float32)
    n = int(grey.sum())
    if n == 0:
        return out
    index = np.full(labels.shape, -1, np.int64)
    index[grey] = np.arange(n)
    diagonal, right, rows, columns = np.zeros(n), np.zeros(n), [], []
    for axis in range(3):
        for step in (1, -1):
            inside = np.ones(labels.shape, bool)  # np.roll wraps round; the border has no neighbour
            edge = [slice(None)] * 3
            edge[axis] = -1 if step == 1 else 0
            inside[tuple(edge)] = False
            inside, neighbour = inside[grey], np.roll(index, -step, axis)[grey]
            diagonal += inside
            right += inside & (np.roll(labels, -step, axis)[grey] == WHITE)
            row = np.nonzero(inside & (neighbour >= 0))[0]
            rows.append(row)
            columns.append(neighbour[row])
    diagonal[diagonal == 0] = 1
    row, column, own = np.concatenate(rows), np.concatenate(columns), np.arange(n)
    entries = np.r_[diagonal, -np.ones(len(row))]
    matrix = coo_matrix((entries, (np.r_[own, row], np.r_[own, column])), (n, n)).tocsr()
    matrix = matrix + 1e-9 * coo_matrix((np.ones(n), (own, own)), (n, n)).tocsr()
    solution, _ = cg(matrix, right, x0=distance_ratio(labels)[grey], rtol=1e-4, maxiter=400)
    out[grey] = np.clip(solution, 0, 1)
    return out


def distance_ratio(labels):
    def away(label):
        found = (labels == label).any()
        return ndimage.distance_transform_edt(labels != label) if found else np.full(labels.shape, 1e3)
    csf, white = away(CSF), away(WHITE)
    return csf / (csf + white)
