#!/usr/bin/env python3
"""Makes docs/images/example.png from the result of `make run`.

    python docs/images/make_picture.py ALIGNER dist/run/example

The patch image in the template's grid with contours of the template's depth: on the left through
the linear placement alone, on the right through the whole transform. Needs matplotlib and nibabel.
"""
import pathlib
import subprocess
import sys
import tempfile

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "examples" / "data"


def main():
    aligner, results = sys.argv[1], pathlib.Path(sys.argv[2])
    after = nib.load(results / "patch-in-example.nii.gz")
    with tempfile.TemporaryDirectory() as folder:
        before_path = pathlib.Path(folder) / "before.nii.gz"
        subprocess.run([aligner, "apply", "-i", DATA / "patch_image.nii.gz", "-o", before_path,
                        "-t", f"[{results / 'affine.txt'},1]", "--reference", results / "patch-in-example.nii.gz"], check=True)
        before = np.asarray(nib.load(before_path).dataobj)
        depth_path = pathlib.Path(folder) / "depth.nii.gz"
        # The template's depth on the same voxels: an identity affine does the cropping.
        identity = pathlib.Path(folder) / "identity.txt"
        identity.write_text("#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
                            "Parameters: 1 0 0 0 1 0 0 0 1 0 0 0\nFixedParameters: 0 0 0\n")
        subprocess.run([aligner, "apply", "-i", DATA / "template_depth.nii.gz", "-o", depth_path, "-t", identity,
                        "--reference", results / "patch-in-example.nii.gz"], check=True)
        depth = np.asarray(nib.load(depth_path).dataobj)
    after = np.asarray(after.dataobj)
    plane = after.shape[2] // 2
    figure, axes = plt.subplots(1, 2, figsize=(10, 5.2), facecolor="white")
    for axis, image, title in zip(axes, (before, after), ("linear placement", "after voluba-align")):
        axis.imshow(image[:, :, plane].T, origin="lower", cmap="gray", vmin=0, vmax=0.95)
        axis.contour(depth[:, :, plane].T, levels=[0.05, 0.5, 0.95], colors=["#3fa7ff", "#ffd23f", "#ff5d5d"], linewidths=1.3)
        axis.set_title(title)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "images" / "example.png", dpi=80)


if __name__ == "__main__":
    main()
