"""Token datasets in, checkpoints out: order, packing, model, schedule, loop."""
