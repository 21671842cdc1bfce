"""Makes one case with a known answer: template, patch, truth, placement, landmarks."""
import json

import numpy as np
from scipy import ndimage

import sources
import truths
from fields import (LPS, apply_affine, corner_folds, grid, jacobian, sample, sample_vector, save_scalar,
                    save_warp, write_itk_affine)

# The order of draws from the generator is part of a case's identity: texture, deformation, noise,
# landmarks. ding64 and ding128 depend on it.


def make(spec, folder):
    rng = np.random.default_rng(spec.seed)
    labels, image, template_affine = sources.template(spec)
    depth = sources.depth(labels)
    if image is None:
        image = texture(rng, labels, depth)
    image = (1000 * image).astype(np.float32)
    voxel_mm, affine, matrix = placement(spec, template_affine)
    u, inverse = truths.make(spec, voxel_mm, rng)
    to_template = np.linalg.inv(template_affine) @ matrix @ np.diag([*voxel_mm, 1])
    x = grid((spec.size,) * 3)
    seen_at = apply_affine(to_template, x + u)
    if spec.depth == "resample":
        patch_depth = sample(depth, seen_at)
    else:
        # Labels are not smoothed before they are warped: thin sulci stay open.
        warped = [sample((labels == k).astype(np.float32), seen_at) for k in range(3)]
        patch_depth = sources.depth(np.argmax(warped, axis=0).astype(np.int8))
    if spec.noise:
        patch_depth = np.clip(patch_depth + spec.noise * rng.standard_normal(patch_depth.shape), 0, 1)
    patch_image = sample(image, seen_at)

    save_scalar(folder / "template_depth.nii.gz", depth, template_affine)
    save_scalar(folder / "template_image.nii.gz", image, template_affine)
    save_scalar(folder / "patch_depth.nii.gz", patch_depth, affine)
    save_scalar(folder / "patch_image.nii.gz", patch_image, affine)
    save_warp(folder / "gt_warp.nii.gz", u, affine)
    save_warp(folder / "gt_inverse_warp.nii.gz", inverse, affine)
    write_params(folder, spec, rng, u, patch_depth, voxel_mm, matrix)
    write_affines(folder, voxel_mm, affine, matrix)
    write_facts(folder, spec, u, inverse, patch_depth, voxel_mm, seen_at)


def texture(rng, labels, depth):
    """Intensity with laminar and tangential structure, for sources without an image."""
    noise = ndimage.gaussian_filter(rng.standard_normal(labels.shape).astype(np.float32), 2.5)
    image = 0.25 + 0.5 * depth + 0.08 * np.sin(12 * depth) + 0.12 * noise / noise.std()
    return image * (labels > 0)


def rotation(rx, ry, rz):
    """Degrees about x, then y, then z."""
    cx, cy, cz = np.cos(np.deg2rad([rx, ry, rz]))
    sx, sy, sz = np.sin(np.deg2rad([rx, ry, rz]))
    return (np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
            @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]))


def placement(spec, template_affine):
    """Patch voxel size (anisotropic), its oblique affine, and the matrix scaled voxel mm -> template
    RAS mm: rotation, slight scale and shear."""
    voxel_mm = spec.voxel * np.array([0.70, 0.78, 0.86])
    flip = np.diag({"RAS": [1, 1, 1], "LPS": [-1, -1, 1], "LAS": [-1, 1, 1]}[spec.orient])
    affine = np.eye(4)
    affine[:3, :3] = rotation(9, -14, 21) @ flip @ np.diag(voxel_mm)
    affine[:3, 3] = [31.7, -12.4, 55.2]
    linear = rotation(-11, 8, 13) @ np.array([[1.03, 0.02, 0], [0, 0.98, -0.03], [0.01, 0, 1.01]]) @ flip
    middle = (spec.size - 1) / 2
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = apply_affine(template_affine, np.full((3, 1), middle))[:, 0] - linear @ (voxel_mm * middle)
    return voxel_mm, affine, matrix


def write_params(folder, spec, rng, u, patch_depth, voxel_mm, matrix):
    """A v0 request body: matrix and landmark pairs, in middle cortex, well inside the patch."""
    border = max(3, spec.size // 10)
    candidates = np.argwhere((patch_depth > 0.3) & (patch_depth < 0.7))
    inside = np.all((candidates > border) & (candidates < spec.size - 1 - border), axis=1)
    candidates = candidates[inside]
    picked = [candidates[rng.integers(len(candidates))]]
    while len(picked) < spec.landmarks:  # the farthest of a few, so that they spread
        some = candidates[rng.integers(len(candidates), size=30)]
        away = np.min([np.linalg.norm(some - other, axis=1) for other in picked], axis=0)
        picked.append(some[np.argmax(away)])
    points = np.array(picked, np.float32).T + rng.uniform(-0.4, 0.4, (3, len(picked))).astype(np.float32)
    order = 3 if spec.size <= 128 else 1
    moved = points + sample_vector(u, points, order)
    template = apply_affine(matrix, moved * voxel_mm[:, None].astype(np.float32)).T
    patch = (points * voxel_mm[:, None]).T
    pairs = [{"name": f"L{k}", "source_point": s.tolist(), "target_point": t.tolist()}
             for k, (s, t) in enumerate(zip(template.astype(float), patch))]
    body = {"transformation_matrix": matrix.tolist(), "landmark_pairs": pairs}
    (folder / "params.json").write_text(json.dumps(body, indent=1))


def write_affines(folder, voxel_mm, affine, matrix):
    """The placement as the peers read it."""
    template_to_patch = affine @ np.diag([*(1 / voxel_mm), 1]) @ np.linalg.inv(matrix)  # RAS mm
    write_itk_affine(folder / "template_to_incoming_affine.txt", LPS @ template_to_patch @ LPS)
    np.savetxt(folder / "fixed_to_moving_ras.mat", np.linalg.inv(template_to_patch), fmt="%.10f")


def write_facts(folder, spec, u, inverse, patch_depth, voxel_mm, seen_at):
    """What the truth is like; refuses one that folds or whose inverse is none."""
    size = np.sqrt(((u * voxel_mm[:, None, None, None]) ** 2).sum(0))
    cortex = (patch_depth > 0.02) & (patch_depth < 0.98)
    worst, folds = corner_folds(u)
    inverse_worst, inverse_folds = corner_folds(inverse)
    x = grid(u.shape[1:])
    residual = float(np.abs(inverse + sample_vector(u, x + inverse, 3 if spec.size <= 128 else 1)).max())
    determinant = jacobian(u)
    facts = {"max_disp_mm": float(size.max()), "mean_disp_in_cortex_mm": float(size[cortex].mean()),
             "cortex_voxels_patch": int(cortex.sum()),
             "fraction_of_patch_inside_template":
                 float(np.all((seen_at >= 0) & (seen_at <= spec.size - 1), axis=0).mean()),
             "gt_jacobian_min": float(determinant.min()), "gt_jacobian_max": float(determinant.max()),
             "gt_corner_jacobian_min": [worst, inverse_worst], "gt_corner_folds": [folds, inverse_folds],
             "gt_inverse_residual_max_voxel": residual}
    (folder / "case.json").write_text(json.dumps(facts, indent=1) + "\n")
    if folds or inverse_folds or residual > 0.05:
        raise ValueError(f"{spec.name}: the truth is none: {facts}")
