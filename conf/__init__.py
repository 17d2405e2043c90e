"""The Hydra configuration tree, shipped as nodule_lightning.conf."""
