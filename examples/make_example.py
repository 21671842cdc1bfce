#!/usr/bin/env python3
"""Makes the bundled example from a real human occipital cortex.

    python examples/make_example.py RIM.nii.gz ALIGNER

RIM is `test_data/Ding2016_occip_rim.nii.gz` of the LayNii repository (BSD-3); ALIGNER is the built
program, which computes the template's depth. Needs numpy, scipy, nibabel.

The template is the cortex as it is. The patch is a part of it, seen on an oblique, anisotropic grid
through a known smooth warp (the exponential of a stationary velocity), which neither the placement
nor the images reveal: what the aligner has to find. Its labels are sampled from the warped
*tissues*, so that its depth is computed anew and carries its own errors, as with real data.

Writes into examples/: data/*.nii.gz, request.yaml, data/held_out_landmarks.csv (pairs that the
request does not hold), data/truth.json (facts about the known warp).
"""
import json
import pathlib
import subprocess
import sys

import nibabel as nib
import numpy as np
from scipy import ndimage as ndi

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE / "data"
SEED = 20
TEMPLATE_VOXEL = 0.4  # mm
PATCH_SHAPE = (76, 72, 68)
PATCH_VOXEL = np.array([0.32, 0.36, 0.40])  # mm
LARGEST_DISPLACEMENT = 2.4  # mm
SMOOTHNESS = 3.4  # mm


def rotation(degrees):
    a, b, c = np.deg2rad(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


def affine(linear, translation):
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = linear, translation
    return m


def at(m, points):
    return np.tensordot(m[:3, :3], points, 1) + m[:3, 3].reshape((3,) + (1,) * (points.ndim - 1))


def tissues(rim_path):
    """0 CSF, 1 grey, 2 white. The rim marks borders and grey; the rest takes the nearer border."""
    rim = np.asarray(nib.load(rim_path).dataobj)
    border = (rim == 1) | (rim == 2)
    nearest = ndi.distance_transform_edt(~border, return_distances=False, return_indices=True)
    side = np.where(rim == 1, 0, 2).astype(np.int8)[tuple(nearest)]
    tissue = np.where(rim == 3, 1, side).astype(np.int8)
    # Grey matter whose other border lies outside the image has no depth: it joins its one side.
    pieces, count = ndi.label(tissue == 1)
    for piece in range(1, count + 1):
        inside = pieces == piece
        around = set(np.unique(tissue[ndi.binary_dilation(inside) & ~inside]))
        if len(around & {0, 2}) == 1:
            tissue[inside] = (around & {0, 2}).pop()
    return tissue


def soft(tissue):
    """One smooth membership per tissue, so that it can be sampled between voxels."""
    return [ndi.gaussian_filter((tissue == k).astype(np.float32), 0.6) for k in range(3)]


def sample(volume, coordinates, order=1):
    return ndi.map_coordinates(volume, coordinates, order=order, mode="nearest", output=np.float32)


def velocity(rng, shape):
    """Smooth, in mm along the voxel axes, falling to zero at the border."""
    v = np.stack([ndi.gaussian_filter(rng.standard_normal(shape), SMOOTHNESS / PATCH_VOXEL) for _ in range(3)])
    for axis, size in enumerate(shape):
        ramp = np.minimum(np.arange(size), np.arange(size)[::-1]) / (0.12 * size)
        window = 0.5 - 0.5 * np.cos(np.pi * np.clip(ramp, 0, 1))
        v *= window.reshape([-1 if k == axis else 1 for k in range(3)])
    return v


def exponential(v):
    """Scaling and squaring; voxel units."""
    u = v / 128
    grid = np.indices(v.shape[1:], dtype=np.float64)
    for _ in range(7):
        u = u + np.stack([ndi.map_coordinates(c, grid + u, order=3, mode="nearest") for c in u])
    return u


def save(name, array, m, **fields):
    image = nib.Nifti1Image(array, m)
    image.set_qform(m, 1)
    image.set_sform(m, 1)
    image.header.set_xyzt_units("mm")
    for key, value in fields.items():
        image.header[key] = value
    # nibabel puts a time into the gzip header unless told otherwise.
    import gzip
    with open(DATA / name, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write(image.to_bytes())


def main():
    rim, aligner = sys.argv[1:3]
    DATA.mkdir(exist_ok=True)
    rng = np.random.default_rng(SEED)
    tissue = tissues(rim)
    template_to_world = affine(np.eye(3) * TEMPLATE_VOXEL, [-17.3, -88.1, 4.9])
    labels = (100 * tissue).astype(np.uint8)
    save("template_segmentation.nii.gz", labels, template_to_world)
    subprocess.run([aligner, "--quiet", "depth", DATA / "template_segmentation.nii.gz",
                    "-o", DATA / "template_depth.nii.gz"], check=True)
    depth = np.asarray(nib.load(DATA / "template_depth.nii.gz").dataobj)

    # The patch's own header, and the placement that VoluBA would send (viewer space, mm).
    shape = PATCH_SHAPE
    patch_to_world = affine(rotation([9, -14, 21]) @ np.diag([-1, -1, 1]) @ np.diag(PATCH_VOXEL), [31.7, -12.4, 55.2])
    linear = rotation([-11, 8, 13]) @ np.array([[1.03, 0.02, 0], [0, 0.98, -0.03], [0.01, 0, 1.01]])
    middle_template = at(template_to_world, np.array([[62.0], [60.0], [52.0]]))[:, 0]
    matrix = affine(linear, middle_template - linear @ (PATCH_VOXEL * np.array(shape) / 2))
    viewer = affine(np.diag(PATCH_VOXEL), PATCH_VOXEL / 2)  # voxel -> viewer space
    to_template = np.linalg.inv(template_to_world) @ matrix @ viewer

    v = velocity(rng, shape)
    per_voxel = PATCH_VOXEL.reshape(3, 1, 1, 1)
    v *= LARGEST_DISPLACEMENT / np.sqrt((v ** 2).sum(0)).max() / per_voxel
    u = exponential(v)
    grid = np.indices(shape, dtype=np.float64)
    seen = at(to_template, grid + u)
    patch = np.argmax([sample(m, seen) for m in soft(tissue)], axis=0)
    save("patch_segmentation.nii.gz", (100 * patch).astype(np.uint8), patch_to_world)
    # For the requests that must fail: no surface anywhere, and half a download.
    save("patch_grey_only.nii.gz", np.full(shape, 100, np.uint8), patch_to_world)

    # An intensity image with layers that follow depth, and a texture that does not.
    texture = ndi.gaussian_filter(rng.standard_normal(depth.shape), 2.2)
    image = 0.25 + 0.5 * depth + 0.10 * np.sin(12 * depth) + 0.05 * texture / texture.std()
    image[tissue == 0] = 0.05
    intensity = sample(image.astype(np.float32), seen) + 0.01 * rng.standard_normal(shape)
    stored = np.clip(np.round(intensity * 1000), 0, 65535).astype(np.uint16)
    save("patch_image.nii.gz", stored, patch_to_world, scl_slope=0.001, scl_inter=0, descrip=b"synthetic autoradiograph", cal_min=0, cal_max=1)

    whole = (DATA / "patch_image.nii.gz").read_bytes()
    (DATA / "patch_image_cut.nii.gz").write_bytes(whole[:20000])

    # Landmarks: spread in mid-cortex; six are given, twelve are held out.
    candidates = np.argwhere((patch == 1))
    margin = 9
    candidates = candidates[np.all((candidates > margin) & (candidates < np.array(shape) - 1 - margin), axis=1)]
    picked = [candidates[rng.integers(len(candidates))]]
    while len(picked) < 18:
        some = candidates[rng.integers(len(candidates), size=40)]
        far = np.min([np.linalg.norm((some - p) * PATCH_VOXEL, axis=1) for p in picked], axis=0)
        picked.append(some[np.argmax(far)])
    points = np.array(picked, float).T
    moved = points + np.stack([ndi.map_coordinates(c, points, order=3, mode="nearest") for c in u])
    in_patch = at(viewer, points).T
    in_template = at(matrix @ viewer, moved).T
    write_request(matrix, in_template[:6], in_patch[:6])
    with open(DATA / "held_out_landmarks.csv", "w") as out:
        out.write("name,template_x,template_y,template_z,patch_x,patch_y,patch_z,x,y,z\n")
        for k, (t, p, q) in enumerate(zip(in_template[6:], in_patch[6:], at(patch_to_world, points[:, 6:]).T)):
            out.write(f"held-out-{k + 1}," + ",".join(f"{value:.6f}" for value in [*t, *p, *q]) + "\n")
    length = np.sqrt(((u * per_voxel) ** 2).sum(0))
    (DATA / "truth.json").write_text(json.dumps({
        "largest_displacement_mm": round(float(length.max()), 4),
        "mean_displacement_in_cortex_mm": round(float(length[patch == 1].mean()), 4),
        "inside_template": round(float(np.all([(seen[k] >= 0) & (seen[k] <= n - 1) for k, n in enumerate(depth.shape)], axis=0).mean()), 4),
    }, indent=1) + "\n")


def write_request(matrix, template, patch):
    number = lambda value: f"{value:.6f}"
    row = lambda values: "[" + ", ".join(number(value) for value in values) + "]"
    matrix_rows = "\n".join(f"    - {row(values)}" for values in matrix)
    landmarks = "\n".join(
        f"  - {{name: pair-{k + 1}, template: {row(t)}, patch: {row(p)}}}" for k, (t, p) in enumerate(zip(template, patch)))
    (HERE / "request.yaml").write_text(f"""\
# The bundled example: made by make_example.py, run by `make run` and, in a cluster, by `make demo`.
apiVersion: voluba.ebrains.eu/v1alpha1
kind: AlignmentRequest
metadata:
  name: example
spec:
  template: example
  patch:
    images:
    - name: patch
      source: {{volume: {{claimName: patches, path: patch_image.nii.gz}}}}
    depth:
      segmentation:
        source: {{volume: {{claimName: patches, path: patch_segmentation.nii.gz}}}}
        labels: {{csf: [0], grey: [100], white: [200]}}
  placement:
    # Patch to template in millimetres, as VoluBA sends it.
    space: viewer
    matrix:
{matrix_rows}
  landmarks:
{landmarks}
  output:
    destination: {{volume: {{claimName: results, path: example}}}}
    grids: [patch, template]
  resources: {{memory: 1Gi, cpu: "1"}}
  activeDeadlineSeconds: 1800
""")


if __name__ == "__main__":
    main()
