"""Weigh thumbs: the weights of KTO's two classes, and a probability folded into a label and a weight.

KTO's loss of an answer is 1 - s(z) if it is desirable and 1 - s(-z) if it is not, s being the sigmoid. Since
s(-z) = 1 - s(z), an answer that is desirable with probability p has the expected gradient of one hard label:

    p * lambda_D * grad(1 - s(z)) + (1 - p) * lambda_U * grad(1 - s(-z))
        = (p * lambda_D - (1 - p) * lambda_U) * grad(1 - s(z))

so the sign of the factor is the label and its size, over that class's lambda, is the weight. Nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

# Weighted desirable : undesirable, inside what the paper (1 to 3/2) and TRL (1 to 4/3) recommend.
TARGET_RATIO = 1.15
WEIGHT_CAP = 15.0  # beyond this the rare class's noise is amplified more than its signal

Given = float | str  # a class weight, or "auto"


@dataclass(frozen=True)
class Balance:
    """How the two classes stand to each other.

    Attributes:
        desirable, undesirable: rows of each class; with weights and probabilities their expected, weighted numbers.
        desirable_weight, undesirable_weight: the classes' weights (lambda).
        wanted_weight: what the rare class would need; above `WEIGHT_CAP` it is not given.
    """

    desirable: float
    undesirable: float
    desirable_weight: float
    undesirable_weight: float
    wanted_weight: float = 0.0

    @property
    def ratio(self) -> float:
        """Return weighted desirable : undesirable."""
        return self.desirable_weight * self.desirable / (self.undesirable_weight * self.undesirable)

    @property
    def capped(self) -> bool:
        """Tell whether the rare class would need more than `WEIGHT_CAP`."""
        return self.wanted_weight > WEIGHT_CAP


def balance(
    desirable: float, undesirable: float, desirable_weight: Given = "auto", undesirable_weight: Given = "auto"
) -> Balance:
    """Return both class weights; `auto` brings the weighted classes to `TARGET_RATIO`, through the rarer one."""
    if desirable_weight != "auto" and undesirable_weight != "auto":
        return Balance(desirable, undesirable, float(desirable_weight), float(undesirable_weight))
    through_desirable = undesirable_weight != "auto" or (
        desirable_weight == "auto" and desirable < undesirable
    )
    if through_desirable:
        given = 1.0 if undesirable_weight == "auto" else float(undesirable_weight)
        wanted = TARGET_RATIO * given * undesirable / desirable
        return Balance(desirable, undesirable, _capped(wanted), given, wanted)
    given = 1.0 if desirable_weight == "auto" else float(desirable_weight)
    wanted = given * desirable / (TARGET_RATIO * undesirable)
    return Balance(desirable, undesirable, given, _capped(wanted), wanted)


def fold(probability: float, balance: Balance) -> tuple[bool, float]:
    """Return the label and weight whose gradient is the expected one of an answer's probability of being desirable.

    A certain row keeps its label and has exactly weight 1.
    """
    if probability in (0.0, 1.0):
        return bool(probability), 1.0
    good = probability * balance.desirable_weight
    bad = (1.0 - probability) * balance.undesirable_weight
    if good >= bad:
        return True, (good - bad) / balance.desirable_weight
    return False, (bad - good) / balance.undesirable_weight


def _capped(weight: float) -> float:
    return round(min(weight, WEIGHT_CAP), 4)
