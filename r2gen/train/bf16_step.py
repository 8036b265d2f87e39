"""The optimiser step of bf16 with ZeRO 0, without a wait for the GPU."""

import torch
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer


@torch.no_grad()
def step_without_waiting(optimizer: FP16_UnfusedOptimizer) -> None:
    """What optimizer.step() does, for an AdamW of torch with fused=True.

    DeepSpeed 0.19 asks the GPU for each tensor in turn whether its gradient is finite, and then launches six kernels
    for each. A Swin-B has 329 tensors: meanwhile the GPU has nothing else to do. Here the tensors are processed
    together, and AdamW itself leaves out the step if a gradient is not finite, as it does for torch's GradScaler.
    """
    weights = [weight for group in optimizer.fp16_groups for weight in group]
    masters = [master for group in optimizer.fp32_groups for master in group]
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    for master in masters:
        master.grad = torch.empty_like(master)
    torch._foreach_copy_([master.grad for master in masters], gradients)
    norm = torch.nn.utils.get_total_norm([master.grad for master in masters])
    adamw = optimizer.optimizer
    adamw.found_inf = (~norm.isfinite()).float()
    if optimizer.clip_grad > 0:
        adamw.grad_scale = ((norm + 1e-6) / optimizer.clip_grad).clamp(min=1)  # by which gradients are divided
    try:
        adamw.step()
    finally:
        adamw.found_inf = adamw.grad_scale = None
    torch._foreach_copy_(weights, masters)
    for master in masters:
        master.grad = None
    optimizer._global_grad_norm = norm
