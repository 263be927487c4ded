"""Logistic heads on hidden states: fitted with scikit-learn, kept as plain arrays, saved as safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STRENGTH = 0.003  # inverse regularisation C on standardised features; measured best from 40 to 600 labels


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


def sigmoid(z: Floats) -> Floats:
    out: Floats = 1.0 / (1.0 + np.exp(-np.clip(z, -40, 40)))
    return out


@dataclass(frozen=True)
class Basis:
    """Standardisation and an exact rotation of N rows of width D into at most N coordinates.

    A ridge solution lies in the span of the rows, so nothing is lost, and fits with D >> N get many times faster.
    """

    mean_D: Floats
    scale_D: Floats
    rotation_DR: Floats

    @classmethod
    def of(cls, x_ND: Floats) -> Basis:
        mean_D, scale_D = x_ND.mean(axis=0), np.maximum(x_ND.std(axis=0), 1e-6)
        z_ND = (x_ND - mean_D) / scale_D
        if x_ND.shape[0] >= x_ND.shape[1]:
            return cls(mean_D, scale_D, np.eye(x_ND.shape[1]))
        return cls(mean_D, scale_D, np.linalg.svd(z_ND, full_matrices=False)[2].T)

    def rotate(self, x_ND: Floats) -> Floats:
        out: Floats = ((x_ND - self.mean_D) / self.scale_D) @ self.rotation_DR
        return out

    def head(self, coef_R: Floats, bias: float) -> Head:
        return Head(self.mean_D, self.scale_D, self.rotation_DR @ coef_R, bias)


def fit_head(x_ND: Floats, soft_N: Floats, weight_N: Floats, *, strength: float = STRENGTH) -> Head:
    """`fit_coefficients` on the rows' own basis."""
    basis = Basis.of(x_ND)
    return basis.head(*fit_coefficients(basis.rotate(x_ND), soft_N, weight_N, strength=strength))


def fit_coefficients(
    z_NR: Floats, soft_N: Floats, weight_N: Floats, *, strength: float = STRENGTH
) -> tuple[Floats, float]:
    """(coefficients, bias) on soft targets: each row is positive with weight p and negative with 1 - p.

    Classes are balanced by total weight. One class only gives the smoothed base rate everywhere, so that a
    lopsided start is uncertain and not sure of itself.
    """
    from sklearn.linear_model import LogisticRegression

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
    """(slope, offset) that calibrate held-out logits (Platt 1999); (1, 0) where a class is missing."""
    head = fit_head(logit_N[:, None], soft_N, weight_N, strength=1.0)
    if not head.coef_D[0] > 0:
        return 1.0, 0.0
    slope = float(head.coef_D[0] / head.scale_D[0])
    # fit_head balances the classes; the base rate is put back here.
    rate = float(np.clip((weight_N * soft_N).sum() / weight_N.sum(), 0.02, 0.98))
    return slope, float(head.bias - slope * head.mean_D[0] + np.log(rate / (1 - rate)))


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
