"""How anything trains or runs here: loop, checkpoints, devices, processes, averages of weights and of heads."""
