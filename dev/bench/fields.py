"""Displacement fields and volumes of the benchmark: files, sampling, Jacobians.

Conventions, everywhere in this folder:
  * "patch" is the fixed image, "template" the moving one.
  * Physical space is NIfTI RAS mm; ITK's is LPS mm (x and y negated).
  * "Scaled voxel" is voxel index x voxel size of the patch, in mm, without offset. The placement
    matrix of a case maps it to the template's RAS mm.
  * The forward warp lives on the patch grid: x -> x + u(x), then the affine leads to the template.
    The inverse warp lives on the same grid and goes back: resampled(y) = patch(y + u_inv(y)).
  * On disk a warp is an ITK displacement field: NIfTI (X, Y, Z, 1, 3), intent 1007, LPS mm.
    In memory it is (3, X, Y, Z) in voxels of the patch grid.
"""
import nibabel as nib
import numpy as np
from scipy import ndimage

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TO_LPS = np.array([-1, -1, 1], np.float32)


def values(path):
    return np.asarray(nib.load(path).dataobj, np.float32)


def load_warp(path, affine):
    """A displacement file on the grid `affine` -> (3, X, Y, Z) in voxels of that grid."""
    image = nib.load(path)
    if np.abs(image.affine - affine).max() > 1e-3:
        raise ValueError(f"{path}: not on the patch grid")
    u = np.asarray(image.dataobj, np.float32)
    u = u.reshape(u.shape[:3] + (3,)) * TO_LPS
    to_voxel = np.linalg.inv(affine[:3, :3]).astype(np.float32)
    return np.tensordot(to_voxel, np.moveaxis(u, -1, 0), 1).astype(np.float32)


def save_warp(path, u, affine):
    """(3, X, Y, Z) in voxels of the grid `affine` -> ITK displacement file."""
    ras = np.moveaxis(np.tensordot(affine[:3, :3], u, 1), 0, -1)
    lps = (ras * TO_LPS).astype(np.float32)[:, :, :, None, :]
    image = nib.Nifti1Image(lps, affine)
    image.header.set_intent("vector")
    save_image(path, image, affine)


def save_scalar(path, volume, affine):
    save_image(path, nib.Nifti1Image(np.ascontiguousarray(volume, np.float32), affine), affine)


def save_image(path, image, affine):
    """Both affines are set: the peers do not agree on which of them to believe."""
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write_itk_affine(path, lps):
    """Insight text transform; points: out = matrix in, LPS mm."""
    numbers = list(lps[:3, :3].ravel()) + list(lps[:3, 3])
    lines = ["#Insight Transform File V1.0", "#Transform 0", "Transform: AffineTransform_double_3_3",
             "Parameters: " + " ".join(repr(float(number)) for number in numbers), "FixedParameters: 0 0 0"]
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")


def grid(shape):
    """Voxel indices of a grid, (3, X, Y, Z)."""
    return np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij"))


def apply_affine(matrix, points):
    """4 x 4 matrix on points (3, ...), in the points' own precision."""
    matrix = np.asarray(matrix)
    moved = matrix[:3, :3].astype(points.dtype) @ points.reshape(3, -1)
    moved += matrix[:3, 3].astype(points.dtype)[:, None]
    return moved.reshape(points.shape)


def sample(volume, coordinates, order=1, mode="nearest"):
    return ndimage.map_coordinates(volume, coordinates, order=order, mode=mode, output=np.float32)


def sample_vector(u, coordinates, order=1):
    """(3, X, Y, Z) at coordinates (3, ...); beyond the grid, the border's value."""
    return np.stack([sample(component, coordinates, order) for component in u])


def compose(first, then, order=1):
    """Displacement of x -> y = x + first(x) -> y + then(y)."""
    return first + sample_vector(then, grid(first.shape[1:]) + first, order)


def jacobian(u):
    """Determinant of the derivative of x + u(x), by central differences."""
    g = [list(np.gradient(component)) for component in u]
    for axis in range(3):
        g[axis][axis] = g[axis][axis] + 1
    return determinant(g)


def determinant(g):
    return (g[0][0] * (g[1][1] * g[2][2] - g[1][2] * g[2][1])
            - g[0][1] * (g[1][0] * g[2][2] - g[1][2] * g[2][0])
            + g[0][2] * (g[1][0] * g[2][1] - g[1][1] * g[2][0]))


def corner_folds(u):
    """Smallest corner Jacobian and number of folded cells.

    The determinant from one-sided differences at each of the 8 corners of every cell: a trilinear
    warp cannot fold within a cell unless one of them is <= 0. Stricter than central differences,
    which do not see a fold that alternates from voxel to voxel.
    """
    cells = [n - 1 for n in u.shape[1:]]
    worst, folded = np.inf, np.zeros(cells, bool)
    along = [np.diff(u, axis=axis + 1) for axis in range(3)]
    for corner in np.ndindex(2, 2, 2):
        pick = [slice(offset, offset + n) for offset, n in zip(corner, cells)]
        g = [[None] * 3 for _ in range(3)]
        for axis in range(3):
            where = [slice(None) if other == axis else pick[other] for other in range(3)]
            for component in range(3):
                g[component][axis] = along[axis][(component, *where)] + (component == axis)
        value = determinant(g)
        worst = min(worst, float(value.min()))
        folded |= value <= 0
    return worst, int(folded.sum())
