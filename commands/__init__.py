"""What people call that is no stage: new pictures, an export, a folder of one's own, slices of a run."""
