"""What is trained: LightningModules with their steps, figures and optimizers."""
