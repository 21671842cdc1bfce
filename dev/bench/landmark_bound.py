"""How much of an error the landmark pairs can take away at most, as far as linear prediction goes.

Exact pairs tell the error of a registration without landmarks at as many points. Of all predictions
elsewhere that are linear in these, the one with the least square error weighs them by the covariance of
the error (kriging; Matheron 1963). Here it is even told that covariance, as a function of distance, from
the true error itself, which no program can know.
"""
import numpy as np

SAMPLE = 4000  # points from which the covariance is taken
BINS = 50
LEAST = 1e-3  # eigenvalues of the pairs' covariance, relative to the largest


def best_linear(error, at, error_of_pairs, pairs):
    """Mean length of what the best linear prediction leaves of an error, relative to the error's.

    `error` (3, N) at the points `at` (3, N), and the error (3, P) at the pairs (3, P); all in mm.
    """
    covariance = radial_covariance(error, at)
    to_pairs = covariance(distances(at, pairs))
    values, vectors = np.linalg.eigh(covariance(distances(pairs, pairs)))
    inverse = (vectors / np.maximum(values, LEAST * values.max())) @ vectors.T
    predicted = error_of_pairs @ inverse @ to_pairs.T
    return float(np.linalg.norm(error - predicted, axis=0).mean() / np.linalg.norm(error, axis=0).mean())


def radial_covariance(error, at):
    """Mean product of a component at two points, as a function of their distance in mm."""
    picked = np.random.default_rng(0).permutation(at.shape[1])[:SAMPLE]
    error, at = error[:, picked], at[:, picked]
    apart = distances(at, at)
    products = error.T @ error / 3
    edges = np.linspace(0, apart.max(), BINS + 1)
    of = np.digitize(apart, edges[1:-1])
    other = ~np.eye(len(apart), dtype=bool)
    count = np.bincount(of[other], minlength=BINS)
    mean = np.bincount(of[other], products[other], BINS) / np.maximum(count, 1)
    known = np.concatenate([[0], 0.5 * (edges[:-1] + edges[1:])[count > 0]])
    return lambda mm: np.interp(mm, known, np.concatenate([[np.diag(products).mean()], mean[count > 0]]))


def distances(some, others):
    """(N, P) of points (3, N) and (3, P)."""
    square = (some ** 2).sum(0)[:, None] + (others ** 2).sum(0) - 2 * some.T @ others
    return np.sqrt(np.maximum(square, 0))
