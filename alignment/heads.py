"""Logistic heads on hidden states: fitted with scikit-learn, kept as plain arrays, saved as safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STRENGTH = 6.0  # inverse regularisation C on rows of mean square length 1
RANK = 200  # coordinates that rows are reduced to


@dataclass(frozen=True)
class Head:
    """P(positive | x) = sigmoid(slope * ((x - mean) / scale . coef + bias) + offset); x has shape [N, D]."""

    mean_D: Floats
    scale_D: Floats
    coef_D: Floats
    bias: float
    slope: float = 1.0
    offset: float = 0.0

    def logit(self, x_ND: Floats) -> Floats:
        raw = ((x_ND - self.mean_D) / self.scale_D) @ self.coef_D + self.bias
        out: Floats = self.slope * raw + self.offset
        return out

    def probability(self, x_ND: Floats) -> Floats:
        return sigmoid(self.logit(x_ND))

    def scaled(self, slope: float, offset: float) -> Head:
        """The same direction, its logits times `slope` plus `offset`."""
        return replace(self, slope=self.slope * slope, offset=self.offset * slope + offset)


def sigmoid(z: Floats) -> Floats:
    out: Floats = 1.0 / (1.0 + np.exp(-np.clip(z, -40, 40)))
    return out


@dataclass(frozen=True)
class Basis:
    """Standardisation, scaling to a mean square length of 1, and a rotation to at most RANK principal coordinates.

    A ridge solution lies in the span of the rows, so with up to RANK rows nothing is lost, and fits with many
    features get many times faster. One regularisation strength fits inputs of any width.
    """

    mean_D: Floats
    scale_D: Floats
    rotation_DR: Floats

    @classmethod
    def of(cls, x_ND: Floats) -> Basis:
        mean_D, std_D = x_ND.mean(axis=0), x_ND.std(axis=0)
        varies = std_D > 1e-6
        # A feature that never varied here says nothing: were it divided by almost nothing, it could say anything.
        scale_D = np.where(varies, std_D, np.inf) * np.sqrt(max(int(varies.sum()), 1))
        z_ND = (x_ND - mean_D) / scale_D
        return cls(mean_D, scale_D, _principal(z_ND))

    def rotate(self, x_ND: Floats) -> Floats:
        out: Floats = ((x_ND - self.mean_D) / self.scale_D) @ self.rotation_DR
        return out

    def head(self, coef_R: Floats, bias: float) -> Head:
        return Head(self.mean_D, self.scale_D, self.rotation_DR @ coef_R, bias)


def _principal(z_ND: Floats) -> Floats:
    """[D, R] the span of up to RANK rows, else the leading directions by randomised PCA with a fixed seed
    (Halko, Martinsson, Tropp 2011): a tenth of the time of the exact ones."""
    n, d = z_ND.shape
    if min(n, d) <= RANK:
        values, turned = np.linalg.eigh(z_ND @ z_ND.T if n < d else z_ND.T @ z_ND)
        keep = values > 1e-9 * max(values[-1], 1e-12)
        out: Floats = z_ND.T @ (turned[:, keep] / np.sqrt(values[keep])) if n < d else turned[:, keep]
        return out
    sketch_DR = np.random.default_rng(0).standard_normal((d, RANK))
    for _ in range(2):
        sketch_DR, _ = np.linalg.qr(z_ND.T @ (z_ND @ sketch_DR))
    return sketch_DR


def fit_head(x_ND: Floats, soft_N: Floats, weight_N: Floats, *, strength: float = STRENGTH) -> Head:
    """`fit_coefficients` on the rows' own basis."""
    basis = Basis.of(x_ND)
    return basis.head(*fit_coefficients(basis.rotate(x_ND), soft_N, weight_N, strength=strength))


def fit_coefficients(
    z_NR: Floats, soft_N: Floats, weight_N: Floats, *, strength: float = STRENGTH
) -> tuple[Floats, float]:
    """(coefficients, bias) on soft targets: each row is positive with weight p and negative with 1 - p.

    Classes are balanced by total weight. One class only gives the smoothed base rate everywhere, so that a
    lopsided start is uncertain and not sure of itself. Without coordinates (R = 0) there is nothing to learn.
    """
    from sklearn.linear_model import LogisticRegression

    if not z_NR.shape[1]:
        return np.zeros(0), 0.0
    positive, negative = weight_N * soft_N, weight_N * (1 - soft_N)
    if positive.sum() <= 0 or negative.sum() <= 0:
        rate = (positive.sum() + 1) / (weight_N.sum() + 2)
        return np.zeros(z_NR.shape[1]), float(np.log(rate / (1 - rate)))
    total = weight_N.sum()
    up, down = positive > 0, negative > 0
    x = np.concatenate([z_NR[up], z_NR[down]])
    y = np.concatenate([np.ones(up.sum()), np.zeros(down.sum())])
    w = np.concatenate([positive[up] * total / 2 / positive.sum(), negative[down] * total / 2 / negative.sum()])
    fitted = LogisticRegression(C=strength, max_iter=300).fit(x, y, sample_weight=w)
    return fitted.coef_[0], float(fitted.intercept_[0])


def fit_platt(logit_N: Floats, soft_N: Floats, weight_N: Floats) -> tuple[float, float]:
    """(slope, offset) that calibrate held-out logits of unit spread, without balancing (Platt 1999).

    A weak normal prior (ours: slope 1.5, spread 1) holds the slope where labels are few or one class is missing.
    """
    from scipy.optimize import minimize

    weight_N = weight_N / weight_N.mean()

    def loss(at: Floats) -> tuple[float, Floats]:
        z = np.clip(at[0] * logit_N + at[1], -40, 40)
        p = sigmoid(z)
        # A smoothed base rate: one imagined answer of either verdict at logit 0.
        held = (at[0] - 1.5) ** 2 / 2 + 2 * np.logaddexp(0, at[1]) - at[1]
        value = weight_N @ (np.logaddexp(0, z) - soft_N * z) + held
        error = weight_N * (p - soft_N)
        return value, np.array([error @ logit_N + at[0] - 1.5, error.sum() + 2 * sigmoid(np.array(at[1])) - 1])

    found = minimize(loss, np.array([1.5, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.05, 20.0), (-10.0, 10.0)])
    return float(found.x[0]), float(found.x[1])


def save_heads(folder: Path, heads: dict[str, Head], about: dict[str, object]) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[np.float64]] = {}
    for name, head in heads.items():
        tensors |= {f"{name}/mean": head.mean_D, f"{name}/scale": head.scale_D, f"{name}/coef": head.coef_D}
        tensors[f"{name}/rest"] = np.array([head.bias, head.slope, head.offset])
    save_file(tensors, folder / "heads.safetensors")
    (folder / "about.json").write_text(json.dumps(about, indent=1, sort_keys=True))


def load_heads(folder: Path) -> dict[str, Head]:
    from safetensors.numpy import load_file

    path = folder / "heads.safetensors"
    if not path.exists():
        raise ValueError(f"{path} is missing; a critic folder holds heads.safetensors")
    tensors = load_file(path)
    names = sorted({key.rsplit("/", 1)[0] for key in tensors})
    heads = {}
    for name in names:
        bias, slope, offset = (float(v) for v in tensors[f"{name}/rest"])
        heads[name] = Head(
            tensors[f"{name}/mean"], tensors[f"{name}/scale"], tensors[f"{name}/coef"], bias, slope, offset
        )
    return heads
