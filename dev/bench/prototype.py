#!/usr/bin/env python3
"""The method's first form, in Python: a yardstick that the aligner must never fall behind.

    prototype.py CASE OUT      writes warp, inverse_warp, resampled (.nii.gz) and own.json

Written to find the formulation before any Rust existed, and kept as it was; only its helpers for
files moved to fields.py. It is no second implementation to be maintained: change it only if it no
longer runs. numba compiles it on first use; one thread.

Stationary velocity v on a lattice (3 voxels of the level), phi = exp(v), levels 4-2-1.
Energy  E(v) = 1/2 int rho(r) w_g dx + lam/2 int |L v|^2 dx,  L*L = (1 - ell^2/6 lap)^3,
r = F o exp(-v/2) - T o A o exp(v/2); rho Geman-McClure of scale (2, 1, 0.7) x rms(r) at levels
4, 2, 1; w_g = g^2/(g^2+g0^2), g0 the rms slope of depth; ell = 0.95/g0 (about the thickness).
Gauss-Newton: (J'WJ + lam R) d = J'W r - lam R v, by conjugate gradients in the cosine
domain, preconditioned by (mean J'WJ + lam R)^-1.
lam = 0.67 g0^2 q^3/0.05 / max(1, rms(v)^2/(0.12 ell)^2), q = min(rms(r), 0.06): vanishes when
the two depths agree, stays when they do not, gives way to large warps.
"""
import json
import math
import pathlib
import sys
import time

import numba as nb
import numpy as np
from scipy import ndimage as ndi
from scipy.fft import dctn, idctn

from cases import Case
from fields import corner_folds, grid, sample, save_scalar, save_warp, values

JIT = dict(cache=True, fastmath=True)


@nb.njit(**JIT)
def warp(vol, m, u, out, ok):
    """out(x) = vol(m (x + u(x))), trilinear, clamped; ok = 1 inside.  Voxel units."""
    X, Y, Z = out.shape
    A, B, C = vol.shape
    for i in range(X):
        for j in range(Y):
            for k in range(Z):
                x, y, z = i + u[0, i, j, k], j + u[1, i, j, k], k + u[2, i, j, k]
                a = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                b = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                c = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                inside = 0 <= a <= A - 1 and 0 <= b <= B - 1 and 0 <= c <= C - 1
                a, b, c = min(max(a, 0.0), A - 1.0), min(max(b, 0.0), B - 1.0), min(max(c, 0.0), C - 1.0)
                p, q, r = min(int(a), A - 2), min(int(b), B - 2), min(int(c), C - 2)
                fa, fb, fc = a - p, b - q, c - r
                v00 = vol[p, q, r] * (1 - fc) + vol[p, q, r + 1] * fc
                v01 = vol[p, q + 1, r] * (1 - fc) + vol[p, q + 1, r + 1] * fc
                v10 = vol[p + 1, q, r] * (1 - fc) + vol[p + 1, q, r + 1] * fc
                v11 = vol[p + 1, q + 1, r] * (1 - fc) + vol[p + 1, q + 1, r + 1] * fc
                out[i, j, k] = (v00 * (1 - fb) + v01 * fb) * (1 - fa) + (v10 * (1 - fb) + v11 * fb) * fa
                ok[i, j, k] = 1.0 if inside else 0.0


@nb.njit(**JIT)
def compose(u, w, out):
    """out(x) = u(x) + w(x + u(x)), clamped.  Voxel units."""
    _, X, Y, Z = u.shape
    for i in range(X):
        for j in range(Y):
            for k in range(Z):
                a = min(max(i + u[0, i, j, k], 0.0), X - 1.0)
                b = min(max(j + u[1, i, j, k], 0.0), Y - 1.0)
                c = min(max(k + u[2, i, j, k], 0.0), Z - 1.0)
                p, q, r = min(int(a), X - 2), min(int(b), Y - 2), min(int(c), Z - 2)
                fa, fb, fc = a - p, b - q, c - r
                for d in range(3):
                    v00 = w[d, p, q, r] * (1 - fc) + w[d, p, q, r + 1] * fc
                    v01 = w[d, p, q + 1, r] * (1 - fc) + w[d, p, q + 1, r + 1] * fc
                    v10 = w[d, p + 1, q, r] * (1 - fc) + w[d, p + 1, q, r + 1] * fc
                    v11 = w[d, p + 1, q + 1, r] * (1 - fc) + w[d, p + 1, q + 1, r + 1] * fc
                    out[d, i, j, k] = (u[d, i, j, k] + (v00 * (1 - fb) + v01 * fb) * (1 - fa)
                                       + (v10 * (1 - fb) + v11 * fb) * fa)


@nb.njit(**JIT)
def accumulate(r, ok, s1, s2, h, sign, s2r, gw, fl, b, A):
    """add J'W r (b, 3) and J'W J (A, 6) of one image pair, summed over lattice cells.
    J = mean gradient of both images per mm; W = Geman-McClure x g^2/(g^2+gw)."""
    X, Y, Z = r.shape
    for i in range(X):
        i0, i1 = max(i - 1, 0), min(i + 1, X - 1)
        p = min(i // fl[0], b.shape[1] - 1)
        for j in range(Y):
            j0, j1 = max(j - 1, 0), min(j + 1, Y - 1)
            q = min(j // fl[1], b.shape[2] - 1)
            for k in range(Z):
                if ok[i, j, k] < 0.5:
                    continue
                k0, k1 = max(k - 1, 0), min(k + 1, Z - 1)
                t = min(k // fl[2], b.shape[3] - 1)
                gx = 0.5 * (s1[i1, j, k] - s1[i0, j, k] + s2[i1, j, k] - s2[i0, j, k]) / ((i1 - i0) * h[0])
                gy = 0.5 * (s1[i, j1, k] - s1[i, j0, k] + s2[i, j1, k] - s2[i, j0, k]) / ((j1 - j0) * h[1])
                gz = 0.5 * (s1[i, j, k1] - s1[i, j, k0] + s2[i, j, k1] - s2[i, j, k0]) / ((k1 - k0) * h[2])
                gg = gx * gx + gy * gy + gz * gz
                if gg < 1e-9:
                    continue
                e = r[i, j, k]
                w = s2r / (s2r + e * e)
                w = w * w * gg / (gg + gw)
                f = w * e * sign
                b[0, p, q, t] += f * gx
                b[1, p, q, t] += f * gy
                b[2, p, q, t] += f * gz
                A[0, p, q, t] += w * gx * gx
                A[1, p, q, t] += w * gx * gy
                A[2, p, q, t] += w * gx * gz
                A[3, p, q, t] += w * gy * gy
                A[4, p, q, t] += w * gy * gz
                A[5, p, q, t] += w * gz * gz


def tensor_mul(A, p):
    return np.stack([A[0] * p[0] + A[1] * p[1] + A[2] * p[2],
                     A[1] * p[0] + A[3] * p[1] + A[4] * p[2],
                     A[2] * p[0] + A[4] * p[1] + A[5] * p[2]])


def interp_matrix(x, n):
    """cubic spline values at positions x (cell units) from n cell centres"""
    e = np.eye(n)
    return np.stack([ndi.map_coordinates(e[j], [x], order=3, mode="reflect")
                     for j in range(n)], 1).astype(np.float32)


def separable(U, v):
    v = np.einsum("xa,dabc->dxbc", U[0], v, optimize=True)
    v = np.einsum("yb,dxbc->dxyc", U[1], v, optimize=True)
    return np.ascontiguousarray(np.einsum("zc,dxyc->dxyz", U[2], v, optimize=True), np.float32)


def exp_field(v, hc):
    """exp of the velocity (mm) on its own lattice, scaling and squaring; mm"""
    s = hc.astype(np.float32)[:, None, None, None]
    u = v / s
    big = float(np.sqrt((u ** 2).sum(0)).max())
    n = max(3, math.ceil(math.log2(big / 0.1))) if big > 1e-6 else 0
    u = np.ascontiguousarray(u / 2 ** n, np.float32)
    o = np.empty_like(u)
    for _ in range(n):
        compose(u, u, o)
        u, o = o, u
    return u * s


class Registration:
    def __init__(self, fixed, moving, m, vs, tvs, ell=None, kappa=0.67, lat=3, iters=8, levels=(4, 2, 1),
                 mode="mid", robust=(2, 1, 0.7), noise=0.06, lam_min=3.3e-5, cg=12, tol=0.01, landmarks=None,
                 lm_sigma=0.3, lm_volume=2.0, amp=0.12):
        """fixed on the patch grid; moving sampled through m (patch voxel -> template voxel)"""
        self.F, self.T, self.m = fixed.astype(np.float32), moving.astype(np.float32), m
        self.vs, self.tvs, self.lat, self.iters = np.asarray(vs, float), np.asarray(tvs, float), lat, iters
        self.levels, self.mode, self.robust, self.cg, self.tol = levels, mode, robust, cg, tol
        self.landmarks, self.lm_sigma, self.lm_volume, self.noise = landmarks, lm_sigma, lm_volume, noise
        self.amp = amp
        mask, g2 = self.cortex(self.F, self.vs)
        self.g0 = math.sqrt(g2)                    # rms slope of depth, about 1/thickness
        self.ell = ell or 0.95 / self.g0           # mm
        self.kappa, self.lam_min = kappa * g2, lam_min * g2
        self.log = []

    @staticmethod
    def cortex(F, h):
        s = ndi.gaussian_filter(F, 1.0)
        g = np.gradient(s, *[float(a) for a in h])
        mask = (s > 0.02) & (s < 0.98)
        return mask, float((g[0] ** 2 + g[1] ** 2 + g[2] ** 2)[mask].mean())

    def level(self, f):
        n = np.array([math.ceil(a / f) for a in self.F.shape])
        m = self.m @ np.array([[f, 0, 0, (f - 1) / 2], [0, f, 0, (f - 1) / 2], [0, 0, f, (f - 1) / 2], [0, 0, 0, 1]])
        if f == 1:
            return self.F, self.T, m.astype(np.float32), n
        s = 0.5 * f * float(self.vs.mean())        # mm, the same for both images
        F = ndi.gaussian_filter(self.F, s / self.vs, mode="nearest")
        T = ndi.gaussian_filter(self.T, s / self.tvs, mode="nearest")
        c = [np.arange(k) * f + (f - 1) / 2 for k in n]
        return sample(F, np.meshgrid(*c, indexing="ij")), T, m.astype(np.float32), n

    def run(self):
        v = None
        for f, c in zip(self.levels, self.robust):
            F, T, m, n = self.level(f)
            h = self.vs * f
            nc = -(-n // self.lat)
            hc = h * self.lat
            if v is None:
                v = np.zeros((3, *nc), np.float32)
            else:
                v = separable([interp_matrix((np.arange(nc[a]) + 0.5) * hc[a] / old[a] - 0.5, v.shape[a + 1])
                               for a in range(3)], v)
            old = hc
            U = [interp_matrix((np.arange(n[a]) + 0.5) / self.lat - 0.5, nc[a]) for a in range(3)]
            v = self.solve(F, T, m, h, nc, hc, U, v, f, c)
        inv = (1 / self.vs).astype(np.float32)[:, None, None, None]
        u, ui = [np.ascontiguousarray(separable(U, exp_field(s * v, hc)) * inv) for s in (1, -1)]
        o = np.empty_like(u)
        for _ in range(8):                         # ui = inverse of the stored forward field
            compose(ui, u, o)
            ui -= o
        return u, ui

    def system(self, F, T, m, h, nc, hc, U, v, M0, ok0, mask, gw, c):
        fl = np.full(3, self.lat)
        b, A = np.zeros((3, *nc), np.float32), np.zeros((6, *nc), np.float32)
        inv = (1 / h).astype(np.float32)[:, None, None, None]
        eye = np.eye(4, dtype=np.float32)
        full = lambda t: separable(U, exp_field(t * v, hc)) * inv
        new = lambda: (np.empty_like(F), np.empty_like(F))
        s, ok = new()
        if self.mode == "mid":
            t, okt = new()
            warp(T, m, full(0.5), s, ok)
            warp(F, eye, full(-0.5), t, okt)
            ok *= okt
            pairs = [(t - s, ok, s, t, 1.0)]
        else:
            warp(T, m, full(1.0), s, ok)
            pairs = [(F - s, ok, s, F, 1.0)]
            if self.mode == "two":
                t, okt = new()
                warp(F, eye, full(-1.0), t, okt)
                pairs.append((M0 - t, okt * ok0, t, M0, -1.0))
        r = pairs[0][0]
        rms = float(np.sqrt((r[mask & (ok > 0.5)] ** 2).mean()))
        s2r = max(c * rms, 0.02) ** 2
        for r, ok, a, e, sign in pairs:
            accumulate(r, ok, a, e, h, sign, s2r, gw, fl, b, A)
        k = 1.0 / (self.lat ** 3 * len(pairs))
        return b * k, A * k, rms

    def solve(self, F, T, m, h, nc, hc, U, v, f, robust):
        M0, ok0 = np.empty_like(F), np.empty_like(F)
        warp(T, m, np.zeros((3, *F.shape), np.float32), M0, ok0)
        mask, gw = self.cortex(F, h)
        k2 = sum((np.pi * np.arange(nc[a]) / (nc[a] * hc[a])).reshape([-1 if i == a else 1 for i in range(3)]) ** 2
                 for a in range(3))
        R = ((1 + k2 * self.ell ** 2 / 6) ** 3).astype(np.float32)[None]
        D = lambda x: dctn(x, axes=(1, 2, 3), norm="ortho")
        I = lambda x: idctn(x, axes=(1, 2, 3), norm="ortho")
        vh = D(v)
        for it in range(self.iters):
            b, A, rms = self.system(F, T, m, h, nc, hc, U, v, M0, ok0, mask, gw, robust)
            q = min(rms, self.noise)
            amp = float((v ** 2).sum(0).mean()) / (self.amp * self.ell) ** 2   # large warps are allowed to be
            lam = max(self.kappa * q ** 2 * (q / 0.05) / max(amp, 1.0), self.lam_min)
            if self.landmarks is not None:
                self.add_landmarks(b, A, v, hc, rms ** 2)
            P = 1 / (float((A[0] + A[3] + A[5]).mean()) / 3 + lam * R)
            res = D(b) - lam * R * vh
            x, z = np.zeros_like(res), P * res
            d, rz = z.copy(), float((res * z).sum())
            first = rz
            for _ in range(self.cg):
                Ad = D(tensor_mul(A, I(d))) + lam * R * d
                al = rz / max(float((d * Ad).sum()), 1e-30)
                x += al * d
                res -= al * Ad
                z = P * res
                new = float((res * z).sum())
                if new < 1e-3 * first:
                    break
                d = z + new / rz * d
                rz = new
            dv = I(x)
            s = min(1.0, float(h.min()) / max(float(np.sqrt((dv ** 2).sum(0)).max()), 1e-9))
            vh, v = vh + s * x, v + s * dv
            step = s * float(np.sqrt((dv ** 2).sum(0).mean()))
            self.log.append({"level": f, "it": it, "rms": rms, "lambda": lam, "step_mm": step})
            if step < self.tol * float(h.mean()):
                break
        return v.astype(np.float32)

    def add_landmarks(self, b, A, v, hc, var):
        """soft pairs p -> q (mm, corner of the box = 0): var*V_c/sigma^2 |q - phi(p)|^2"""
        u = exp_field(v, hc)
        w0 = var * self.lm_volume / self.lm_sigma ** 2 / float(np.prod(hc))
        for p, q in zip(*self.landmarks):
            c = p / hc - 0.5
            e = q - p - np.array([ndi.map_coordinates(a, c[:, None], order=1, mode="nearest")[0] for a in u])
            i0 = np.floor(c).astype(int)
            for o in np.ndindex(2, 2, 2):
                w = w0 * np.prod(np.where(o, c - i0, 1 - (c - i0)))
                i = tuple(np.clip(i0 + o, 0, np.array(v.shape[1:]) - 1))
                b[(slice(None), *i)] += w * e
                for k in (0, 3, 5):
                    A[(k, *i)] += w


def resampled(image, coordinates):
    """The image at coordinates (3, X, Y, Z); 0 beyond half a voxel outside, as the aligner and ANTs have it."""
    size = np.array(image.shape).reshape(3, 1, 1, 1)
    inside = ((coordinates >= -0.5) & (coordinates <= size - 0.5)).all(axis=0)
    return np.where(inside, sample(image, coordinates), 0).astype(np.float32)


def main():
    case, out = Case(sys.argv[1], None), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    fixed, moving = values(case.path("patch_depth.nii.gz")), values(case.path("template_depth.nii.gz"))
    template_voxel = np.linalg.norm(case.template.affine[:3, :3], axis=0)

    def make(iterations, **options):
        return Registration(fixed, moving, case.to_template, case.voxel_mm, template_voxel, iters=iterations, **options)

    make(1, levels=(4,)).run()                     # compile outside the clock
    start = time.process_time()
    for tries in range(4):                         # zero folds by construction, or stiffer and again
        registration = make(8, lam_min=3.3e-5 * 10 ** tries)
        u, inverse = registration.run()
        if corner_folds(u)[1] + corner_folds(inverse)[1] == 0:
            break
    cpu = time.process_time() - start
    save_warp(out / "warp.nii.gz", u, case.affine)
    save_warp(out / "inverse_warp.nii.gz", inverse, case.affine)
    image = values(case.path("patch_image.nii.gz"))
    save_scalar(out / "resampled.nii.gz", resampled(image, grid(fixed.shape) + inverse), case.affine)
    (out / "own.json").write_text(json.dumps({"cpu_s": round(cpu, 3), "tries": tries + 1, "log": registration.log}))


if __name__ == "__main__":
    main()
