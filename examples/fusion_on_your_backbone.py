"""Put the fusion on stereo features of your own: shapes, masks, the gate, and where queries look."""

import torch

import crosspol

fusion = crosspol.SafeCrossAttentionFusion(dim=256, pol_dim=128, num_heads=4, pool_size=8, position="rotary")

stereo = torch.randn(2, 256, 60, 80)  # (B, C, h, w), your backbone's features
polarization = torch.randn(2, 128, 60, 80)  # (B, C, h, w), features of the degree of polarization
mask = torch.ones(2, 1, 60, 80)  # 1 = valid polarization
mask[1] = 0  # the second image has none

# Nothing is injected before the first step of training: the backbone is not disturbed.
assert torch.equal(fusion(stereo, polarization, mask), stereo)

# After training the gate lets polarization in, and still never into an image that has none.
torch.nn.init.normal_(fusion.projection.weight, std=0.1)
fusion.requires_grad_(False)
fused = fusion(stereo, polarization, mask, alpha_cap=crosspol.alpha_cap(step=5000))
print("changed:", [not torch.equal(f, s) for f, s in zip(fused, stereo, strict=True)])

weights = fusion.attention.weights(stereo[:1], polarization[:1], mask[:1])
print(
    "attention weights:",
    tuple(weights.shape),
    "(B, heads, queries, pooled cells); rows sum to",
    float(weights[0, 0, 0].sum()),
)
