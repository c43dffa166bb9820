"""Experiments of the GAN papers, from a data folder to a page of figures and images."""

from __future__ import annotations

from cyclecast.training.reproduce.digits import reproduce_digits
from cyclecast.training.reproduce.latent import reproduce_latent
from cyclecast.training.reproduce.street import reproduce_street

EXPERIMENTS = {"digits": reproduce_digits, "latent": reproduce_latent, "street": reproduce_street}
