#!/usr/bin/env python3
"""Other programs read what the aligner writes: nibabel, ANTs through antspyx, SimpleITK, nitransforms.

    test-interop.py ALIGNER RESULTS

RESULTS is the output folder of the bundled example. Every check compares numbers that the other
program computed from our files with those that the aligner computed itself. Closing line:
`interop: N passed, M failed`.
"""
import csv
import json
import pathlib
import subprocess
import sys
import tempfile

import nibabel as nib
import nitransforms
import numpy as np
import SimpleITK as sitk
from ants.internal import get_lib_fn

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "examples" / "data"
antsApplyTransforms = get_lib_fn("antsApplyTransforms")
outcomes = []


def check(name, passed, detail=""):
    outcomes.append(bool(passed))
    print(f"{'ok    ' if passed else 'FAILED'} {name} {detail}")


def values(path):
    return np.asarray(nib.load(path).dataobj, np.float64)


def close(name, ours, theirs, tolerance, inner=(slice(2, -2),) * 3):
    """Compares away from the border: beyond the field, ANTs takes a displacement of zero, we take
    that of the border."""
    difference = np.abs(ours - theirs)[inner]
    worst, share = difference.max(), (difference > tolerance).mean()
    spread = theirs[inner].std()
    # A handful of voxels lie on the edge of the other image.
    passed = share < 1e-4 and np.median(difference) < tolerance / 4 and spread > 0.05
    check(name, passed, f"largest {worst:.2e}, over {tolerance:g}: {share:.1e}, spread {spread:.2f}")


def inside_patch(results):
    """Voxels of the patch-in-template image whose position lies within the patch's grid."""
    patch, image = nib.load(DATA / "patch_image.nii.gz"), nib.load(results / "patch-in-example.nii.gz")
    to_template = np.array(json.loads((results / "report.json").read_text())["patchToTemplate"])
    to_patch = np.linalg.inv(to_template @ patch.affine) @ image.affine
    voxels = np.indices(image.shape).reshape(3, -1)
    position = to_patch[:3, :3] @ voxels + to_patch[:3, 3:]
    last = np.array(patch.shape).reshape(3, 1) - 1
    return np.all((position >= 1) & (position <= last - 1), axis=0).reshape(image.shape)


def simpleitk(results, ours):
    """The template onto the patch; a composite applies what was added last first."""
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(str(results / "warp.nii.gz"), sitk.sitkVectorFloat64))
    affine = sitk.ReadTransform(str(results / "affine.txt"))
    both = sitk.CompositeTransform([affine, field])
    template, patch = (sitk.ReadImage(str(DATA / name)) for name in ("template_depth.nii.gz", "patch_image.nii.gz"))
    image = sitk.Resample(template, patch, both, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    close("SimpleITK: template onto the patch through warp and affine", ours, sitk.GetArrayFromImage(image).T, 1e-3)


def converted(aligner, results, folder):
    """The placement as an ITK file, from the matrix that the request states."""
    placement = json.loads((results / "report.json").read_text())["placement"]
    np.savetxt(folder / "placement.txt", placement["matrix"])
    subprocess.run([aligner, "convert", "--placement", folder / "placement.txt", "--space", placement["space"],
                    "--patch", DATA / "patch_image.nii.gz", "-o", folder / "placement.tfm"], check=True)
    start = np.random.default_rng(5).uniform(-50, 50, (50, 3)).tolist()
    ours, written = (sitk.ReadTransform(str(path)) for path in (folder / "placement.tfm", results / "affine.txt"))
    worst = max(np.abs(np.subtract(ours.TransformPoint(p), written.TransformPoint(p))).max() for p in start)
    moved = max(np.abs(np.subtract(ours.TransformPoint(p), p)).max() for p in start)
    check("SimpleITK: a converted placement", worst < 1e-6 and moved > 1, f"largest {worst:.1e} mm, moved {moved:.1f} mm")


def points(aligner, results, folder):
    """Points of the patch through each transform and through both, beside nitransforms."""
    patch = nib.load(DATA / "patch_image.nii.gz")
    # Voxel centres: there, no interpolation of the field can differ.
    voxels = np.random.default_rng(7).integers(3, np.array(patch.shape) - 3, (200, 3))
    start = nib.affines.apply_affine(patch.affine, voxels)
    with open(folder / "points.csv", "w", newline="") as file:
        csv.writer(file).writerows([["x", "y", "z"], *start.tolist()])

    def ours(*transforms):
        arguments = [aligner, "--quiet", "apply", "--points", folder / "points.csv", "-o", folder / "mapped.csv"]
        for transform in transforms:
            arguments += ["-t", results / transform]
        subprocess.run(arguments, check=True)
        with open(folder / "mapped.csv", newline="") as file:
            return np.array([[float(row[axis]) for axis in "xyz"] for row in csv.DictReader(file)])

    warp = nitransforms.nonlinear.DenseFieldTransform.from_filename(results / "warp.nii.gz", fmt="itk")
    affine = nitransforms.linear.Affine.from_filename(results / "affine.txt", fmt="itk")
    warped = np.asarray(warp.map(start))
    for name, mine, theirs in [
        ("warp", ours("warp.nii.gz"), warped),
        ("affine", ours("affine.txt"), affine.map(start)),
        ("warp, then affine", ours("warp.nii.gz", "affine.txt"), affine.map(warped)),
    ]:
        worst, moved = np.abs(mine - theirs).max(), np.abs(theirs - start).max()
        check(f"nitransforms: points through the {name}", worst < 1e-3 and moved > 0.1,
              f"largest {worst:.1e} mm, moved {moved:.2f} mm")


def main():
    aligner, results = sys.argv[1], pathlib.Path(sys.argv[2])
    folder = pathlib.Path(tempfile.mkdtemp())
    path = lambda name: str(results / name)
    data = lambda name: str(DATA / name)

    def apply(output, image, reference, *transforms):
        arguments = [aligner, "--quiet", "apply", "-i", image, "-o", str(folder / output), "--reference", reference]
        for transform in transforms:
            arguments += ["-t", transform]
        subprocess.run(arguments, check=True)
        return values(folder / output)

    def ants_apply(output, image, reference, *transforms):
        """The very program, with files and arguments as a user gives them."""
        arguments = ["-d", "3", "-i", image, "-r", reference, "-o", str(folder / output), "-n", "Linear"]
        for transform in transforms:
            arguments += ["-t", transform]
        if antsApplyTransforms(arguments) != 0:
            raise SystemExit(f"antsApplyTransforms failed: {arguments}")
        return values(folder / output)

    # Template depth seen by the patch: positions pass the warp first, then the affine.
    ours = apply("t.nii.gz", data("template_depth.nii.gz"), data("patch_image.nii.gz"), path("warp.nii.gz"), path("affine.txt"))
    theirs = ants_apply("ta.nii.gz", data("template_depth.nii.gz"), data("patch_image.nii.gz"), path("warp.nii.gz"), path("affine.txt"))
    close("antsApplyTransforms: template onto the patch through warp and affine", ours, theirs, 1e-3)
    simpleitk(results, ours)
    points(aligner, results, folder)
    converted(aligner, results, folder)
    linear = ants_apply("tl.nii.gz", data("template_depth.nii.gz"), data("patch_image.nii.gz"), path("affine.txt"))
    check("the warp matters", np.abs(linear - theirs).mean() > 0.01, f"mean change {np.abs(linear - theirs).mean():.3f}")
    patch_depth = values(path("patch_segmentation-equivolumetric-depth.nii.gz"))
    cortex = (patch_depth > 0.02) & (patch_depth < 0.98)
    before = np.sqrt(((linear - patch_depth)[cortex] ** 2).mean())
    after = np.sqrt(((theirs - patch_depth)[cortex] ** 2).mean())
    check("ANTs, too, sees the depths meet", after < 0.5 * before, f"{before:.4f} -> {after:.4f}")

    # Patch image on its own grid: the inverse warp alone.
    ours = values(path("patch-transformed.nii.gz"))
    theirs = ants_apply("pp.nii.gz", data("patch_image.nii.gz"), data("patch_image.nii.gz"), path("inverse_warp.nii.gz"))
    close("antsApplyTransforms: patch-transformed", ours, theirs, 2e-3)

    # Patch image in the template: inverse affine, then inverse warp.
    ours = values(path("patch-in-example.nii.gz"))
    theirs = ants_apply("pt.nii.gz", data("patch_image.nii.gz"), path("patch-in-example.nii.gz"), f"[{path('affine.txt')},1]", path("inverse_warp.nii.gz"))
    close("antsApplyTransforms: patch in the template", ours, theirs, 2e-3, inside_patch(results))

    # Headers.
    patch, depth = nib.load(data("patch_image.nii.gz")), nib.load(path("patch_segmentation-equivolumetric-depth.nii.gz"))
    check("nibabel: depth on the patch's grid", np.allclose(depth.affine, patch.affine, atol=1e-5))
    header = depth.header
    check("nibabel: depth header", header.get_data_dtype() == np.float32 and header["cal_max"] == 1 and header["intent_code"] == 1001)
    check("nibabel: qform and sform agree", np.allclose(header.get_qform(), header.get_sform(), atol=1e-5))
    warp = nib.load(path("warp.nii.gz"))
    check("nibabel: warp is (x, y, z, 1, 3), intent 1007", warp.shape == (*patch.shape, 1, 3) and warp.header["intent_code"] == 1007)
    image = nib.load(path("patch-transformed.nii.gz"))
    check("nibabel: image keeps type and scaling", image.get_data_dtype() == np.uint16 and np.isclose(image.dataobj.slope, 0.001))

    passed = sum(outcomes)
    print(f"interop: {passed} passed, {len(outcomes) - passed} failed")
    sys.exit(passed != len(outcomes))


if __name__ == "__main__":
    main()
