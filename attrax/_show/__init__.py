"""What plots and pages share: arrays checked and reduced for showing. Loads no drawing library."""
