"""Known deformations, with their inverses: what a registration is to find.

Three kinds, because a method whose model is one smooth stationary velocity would otherwise be judged
on its own ground:
  flow   exp(v) of one smooth random stationary velocity
  flows  exp(v1) after exp(v2): two velocities of different smoothness
  bumps  12 to 20 local pushes, one after another, each with its own place, width and direction
Each returns the displacement in voxels of the patch grid, (3, X, Y, Z), and its inverse.
"""
import numpy as np
from scipy import ndimage

from fields import compose, grid, sample, sample_vector

# A push moves no two points closer than 1 - STEEPEST of their distance: it cannot fold, neither can
# a chain of pushes, and the fixed point that inverts it converges.
STEEPEST = 0.45


def make(spec, voxel_mm, rng):
    """Deformation and inverse of a case. `voxel_mm`: patch voxel size, mm."""
    shape = (spec.size,) * 3
    order = 3 if spec.size <= 128 else 1
    largest = spec.max_disp * spec.voxel  # mm
    smooth = spec.sigma * spec.voxel  # mm
    if spec.truth == "flow":
        u, inverse = flow(rng, shape, voxel_mm, smooth, largest, order)
    elif spec.truth == "flows":
        u, inverse = flows(rng, shape, voxel_mm, smooth, largest, order)
    elif spec.truth == "bumps":
        u, inverse = bumps(rng, shape, voxel_mm, smooth, largest)
    else:
        raise ValueError(f"unknown kind of truth: {spec.truth}")
    return u, polish(u, inverse, order)


def polish(u, inverse, order):
    """Makes the stored inverse the inverse of the stored field, interpolation included.

    Four rounds of the fixed point, as the cases of the issue were made with. It diverges where the
    deformation stretches more than twofold; then Newton's method, from the same start.
    """
    x = grid(u.shape[1:])
    start = inverse
    for _ in range(4):
        inverse = -sample_vector(u, x + inverse, order)
    if np.abs(inverse + sample_vector(u, x + inverse, order)).max() < 0.02:
        return inverse
    return newton(u, start, order)


def newton(u, inverse, order, rounds=12):
    """Solves y + u(y) = x for y = x + inverse(x); the derivative of u by central differences."""
    x = grid(u.shape[1:])
    slopes = [np.gradient(component) for component in u]
    for _ in range(rounds):
        y = x + inverse
        residual = inverse + sample_vector(u, y, order)
        if np.abs(residual).max() < 1e-4:
            break
        derivative = np.stack([sample_vector(np.stack(slope), y) for slope in slopes])
        derivative = np.moveaxis(derivative, (0, 1), (-2, -1)) + np.eye(3, dtype=np.float32)
        step = np.linalg.solve(derivative, np.moveaxis(residual, 0, -1)[..., None])[..., 0]
        inverse = inverse - np.moveaxis(step, -1, 0)
    return inverse


def length(u, voxel_mm):
    """Largest displacement, mm."""
    return float(np.sqrt(((u * voxel_mm[:, None, None, None]) ** 2).sum(0)).max())


def flow(rng, shape, voxel_mm, smooth, largest, order):
    velocity = scaled_velocity(rng, shape, voxel_mm, smooth, largest, order)
    return exponential(velocity, order), exponential(-velocity, order)


def flows(rng, shape, voxel_mm, smooth, largest, order):
    """exp(v1), half as smooth and two thirds as large, then exp(v2)."""
    to_voxel = (1 / voxel_mm).astype(np.float32)[:, None, None, None]
    first, second = [random_velocity(rng, shape, voxel_mm, s, 0.12) for s in (smooth / 2, smooth)]
    first *= 0.5 * largest / np.sqrt((first ** 2).sum(0)).max() * to_voxel
    second *= 0.75 * largest / np.sqrt((second ** 2).sum(0)).max() * to_voxel
    for _ in range(2):  # together they reach the asked-for size
        u = compose(exponential(first, order), exponential(second, order), order)
        ratio = largest / length(u, voxel_mm)
        first, second = first * np.float32(ratio), second * np.float32(ratio)
    u = compose(exponential(first, order), exponential(second, order), order)
    inverse = compose(exponential(-second, order), exponential(-first, order), order)
    return u, inverse


def scaled_velocity(rng, shape, voxel_mm, smooth, largest, order):
    """Random velocity, voxels, whose exponential moves no point further than `largest` mm."""
    velocity = random_velocity(rng, shape, voxel_mm, smooth, 0.12)
    to_voxel = (1 / voxel_mm).astype(np.float32)[:, None, None, None]
    amplitude = largest / np.sqrt((velocity ** 2).sum(0)).max()
    for _ in range(2):
        u = exponential(velocity * amplitude * to_voxel, order)
        amplitude *= largest / np.sqrt(((u / to_voxel) ** 2).sum(0)).max()
    return velocity * amplitude * to_voxel


def random_velocity(rng, shape, voxel_mm, smooth, taper):
    """Smooth random field, mm, of arbitrary size, zero at the border of the grid."""
    step = 4
    coarse = [max(4, n // step + 1) for n in shape]
    at = grid(shape)
    at = np.stack([at[k] * (coarse[k] - 1) / (shape[k] - 1) for k in range(3)])
    sigma = [smooth / h * (c - 1) / (n - 1) for h, c, n in zip(voxel_mm, coarse, shape)]
    components = []
    for _ in range(3):
        noise = ndimage.gaussian_filter(rng.standard_normal(coarse), sigma, mode="wrap")
        components.append(sample(noise / noise.std(), at, order=3))
    velocity = np.stack(components)
    for axis, n in enumerate(shape):
        t = np.minimum(np.arange(n), np.arange(n)[::-1]) / max(1, taper * n)
        window = 0.5 - 0.5 * np.cos(np.pi * np.clip(t, 0, 1))
        velocity *= window.reshape([-1 if k == axis else 1 for k in range(3)]).astype(np.float32)
    return velocity


def exponential(velocity, order, steps=7):
    """Scaling and squaring, voxels."""
    u = velocity / 2 ** steps
    for _ in range(steps):
        u = compose(u, u, order)
    return u


def bumps(rng, shape, voxel_mm, smooth, largest):
    """Gaussian pushes a exp(-|x - c|^2 / 2 s^2), composed. They are formulas, so neither the chain
    nor its inverse is interpolated. Unlike a flow, the chain does not vanish at the border."""
    extent = voxel_mm * (np.array(shape) - 1)
    count = int(rng.integers(12, 21))
    widths = smooth * rng.uniform(0.7, 1.2, count)
    centres = spread(rng, extent, count)
    pushes = rng.standard_normal((count, 3))
    pushes *= (rng.uniform(0.6, 1.0, count) * largest / np.linalg.norm(pushes, axis=1))[:, None]
    x = grid(shape) * voxel_mm.astype(np.float32)[:, None, None, None]
    ratio = 1.0
    for _ in range(4):  # the size of the chain is no linear function of that of its pushes
        limited = limit(pushes * ratio, widths)
        moved = x
        for chain in zip(centres, widths, limited):
            moved = moved + push(moved, *chain)
        reached = float(np.sqrt(((moved - x) ** 2).sum(0)).max())
        ratio *= largest / reached
    if abs(reached / largest - 1) > 0.1:
        raise ValueError(f"pushes that cannot fold reach {reached:.2f} mm, not {largest:.2f}")
    back = x
    for chain in reversed(list(zip(centres, widths, limited))):
        back = unpush(back, *chain)
    to_voxel = (1 / voxel_mm).astype(np.float32)[:, None, None, None]
    return (moved - x) * to_voxel, (back - x) * to_voxel


def spread(rng, extent, count):
    """Random places in the box, each the farthest of a few from those before it: pushes that pile
    up in one corner would leave the rest of the cortex at rest."""
    picked = [extent * rng.uniform(0.15, 0.85, 3)]
    while len(picked) < count:
        some = extent * rng.uniform(0.15, 0.85, (10, 3))
        away = np.min([np.linalg.norm(some - other, axis=1) for other in picked], axis=0)
        picked.append(some[np.argmax(away)])
    return np.array(picked)


def limit(pushes, widths):
    """Shortens pushes whose slope, |a| e^-1/2 / s at its steepest, is above STEEPEST."""
    slope = np.linalg.norm(pushes, axis=1) * np.exp(-0.5) / widths
    return pushes * np.minimum(1, STEEPEST / np.maximum(slope, 1e-12))[:, None]


def push(points, centre, width, vector):
    """Displacement of a Gaussian push at `points`, mm."""
    squared = sum((points[k] - np.float32(centre[k])) ** 2 for k in range(3))
    weight = np.exp(squared * np.float32(-0.5 / width ** 2))
    return np.stack([weight * np.float32(component) for component in vector])


def unpush(points, centre, width, vector):
    """Where the push came from: z = y - push(z), a contraction by STEEPEST."""
    z = points
    for _ in range(16):  # 0.45^16 of 1 mm is 3e-6 mm
        z = points - push(z, centre, width, vector)
    return z
