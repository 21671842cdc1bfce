"""True errors of a result: how far its fields are from the known deformation of a case.

All lengths in mm. "normal" is the part of an error along the gradient of depth, the only part that a
match of depth can see; "all" is the whole vector. Depth residuals are given for orientation only:
below the floor, the residual at the truth, a smaller one means that errors of the depth were fitted.
"""
import numpy as np

from fields import apply_affine, corner_folds, grid, load_warp, sample, sample_vector, values
from landmark_bound import best_linear

BORDER = 2  # voxels left out along the edge, where the programs extrapolate differently


class Scorer:
    """What is the same for all results of one case."""

    def __init__(self, case):
        self.case = case
        self.x = grid(case.patch.shape)
        self.to_mm = case.affine[:3, :3].astype(np.float32)
        self.truth = load_warp(case.path("gt_warp.nii.gz"), case.affine)
        self.inverse_truth = load_warp(case.path("gt_inverse_warp.nii.gz"), case.affine)
        self.patch_depth = values(case.path("patch_depth.nii.gz"))
        self.template_depth = values(case.path("template_depth.nii.gz"))
        # The template's depth through the placement alone; its gradient is the direction "normal".
        self.linear_depth, inside = self.template_at(self.x)
        gradient = np.stack(np.gradient(self.linear_depth))
        self.gradient = np.tensordot(np.linalg.inv(self.to_mm).T, gradient, 1).astype(np.float32)
        self.inner = np.zeros(case.patch.shape, bool)
        self.inner[(slice(BORDER, -BORDER),) * 3] = True
        floor, truth_inside = self.template_at(self.x + self.truth)
        self.cortex = in_cortex(self.patch_depth) & self.inner & truth_inside
        self.linear_cortex = in_cortex(self.linear_depth) & self.inner & inside
        self.floor = rms((floor - self.patch_depth)[self.cortex])

    def template_at(self, points):
        """Template depth at positions in patch voxels, and which of them lie within the template."""
        at = apply_affine(self.case.to_template, points)
        last = np.array(self.template_depth.shape).reshape(3, *[1] * (at.ndim - 1)) - 1
        return sample(self.template_depth, at), np.all((at >= 0) & (at <= last), axis=0)

    def mm(self, u):
        return np.tensordot(self.to_mm, u, 1)

    def errors(self, u, truth, mask, seen_from):
        """`seen_from`: where the error is felt, in the space of the linear placement."""
        error = self.mm(u - truth)[:, mask]
        normal = sample_vector(self.gradient, seen_from[:, mask])
        steepness = np.linalg.norm(normal, axis=0)
        clear = steepness > 1e-3
        along = np.abs((error * normal).sum(0))[clear] / steepness[clear]
        return {"normal": summary(along), "all": summary(np.linalg.norm(error, axis=0))}

    def forward(self, u):
        seen, _ = self.template_at(self.x + u)
        worst, folds = corner_folds(u)
        return {**self.errors(u, self.truth, self.cortex, self.x + self.truth),
                "depth_rms": rms((seen - self.patch_depth)[self.cortex]), "depth_floor": self.floor,
                "corner_min": worst, "folds": folds, "landmark": self.landmark(u)}

    def inverse(self, u):
        seen = sample(self.patch_depth, self.x + u)
        worst, folds = corner_folds(u)
        return {**self.errors(u, self.inverse_truth, self.linear_cortex, self.x),
                "depth_rms": rms((seen - self.linear_depth)[self.linear_cortex]),
                "corner_min": worst, "folds": folds}

    def landmark(self, u):
        """Mean distance from the true pairs, whatever pairs the program was told."""
        patch, template = self.case.landmarks()
        points = (patch / self.case.voxel_mm[:, None]).astype(np.float32)
        moved = (points + sample_vector(u, points)).astype(float)
        reached = apply_affine(self.case.template.affine @ self.case.to_template, moved)
        return float(np.linalg.norm(reached - template, axis=0).mean())

    def landmark_bound(self, warp):
        """What 12 exact pairs can leave of the error of this result: see landmark_bound.py."""
        error = self.mm(load_warp(warp, self.case.affine) - self.truth)
        voxel_mm = self.case.voxel_mm[:, None]
        patch, _ = self.case.landmarks()
        told = sample_vector(error, (patch / voxel_mm).astype(np.float32))
        return best_linear(error[:, self.cortex], self.x[:, self.cortex] * voxel_mm, told, patch)

    def consistency(self, u, inverse):
        """|x - back(there(x))|, the worse of both orders."""
        ways = []
        for first, then in ((u, inverse), (inverse, u)):
            residual = self.mm(first + sample_vector(then, self.x + first))
            ways.append(np.linalg.norm(residual, axis=0)[self.inner])
        return {"mean": max(float(way.mean()) for way in ways), "max": max(float(way.max()) for way in ways)}

    def image(self, path):
        """RMS difference of the resampled patch image from the template's, in the cortex."""
        at = apply_affine(self.case.to_template, self.x)
        reference = sample(values(self.case.path("template_image.nii.gz")), at)
        return rms((values(path) - reference)[self.linear_cortex])

    def score(self, warp, inverse, image):
        """Everything about one result; the arguments are files."""
        u, back = load_warp(warp, self.case.affine), load_warp(inverse, self.case.affine)
        return {"forward": self.forward(u), "inverse": self.inverse(back),
                "consistency": self.consistency(u, back), "image_rms": self.image(image)}

    def start(self):
        """Errors of the placement alone."""
        zero = np.zeros_like(self.truth)
        return {"forward": self.forward(zero), "inverse": self.inverse(zero),
                "consistency": {"mean": 0.0, "max": 0.0},
                "image_rms": self.image(self.case.path("patch_image.nii.gz"))}


def in_cortex(depth):
    return (depth > 0.02) & (depth < 0.98)


def rms(a):
    return float(np.sqrt((a.astype(np.float64) ** 2).mean()))


def summary(a):
    return {"mean": float(a.mean(dtype=np.float64)), "p95": float(np.percentile(a, 95))}
