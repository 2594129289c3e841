"""The networks of `distillery bench` in PyTorch, with the same tensor names, so that one file of weights fits both."""
import torch
import torch.nn.functional as F
from torch import nn


class Standardized(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1 in every forward pass."""

    frozen = False

    def kernels(self):
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True, correction=0)
        return (self.weight - mean) * torch.rsqrt(variance + 1e-10)

    def freeze(self):
        """Standardises once, for a network that is no longer trained."""
        self.weight.data, self.frozen = self.kernels().detach(), True

    def forward(self, x):
        return F.conv2d(x, self.weight if self.frozen else self.kernels(), None, self.stride, self.padding)


def conv(co, ci, size, stride=1):
    return Standardized(ci, co, size, stride, size // 2, bias=False)


def named(**children):
    return nn.ModuleDict(children)


class Block(nn.Module):
    """Pre-activation block: `sizes` are the kernels of its convolutions, the stride is at the last 3x3 but one."""

    def __init__(self, ci, middle, co, sizes, strides, groups):
        super().__init__()
        widths = [ci] + [middle] * (len(sizes) - 1) + [co]
        self.count = len(sizes)
        for i, (size, stride) in enumerate(zip(sizes, strides)):
            setattr(self, f"norm{i + 1}", nn.GroupNorm(groups, widths[i]))
            setattr(self, f"conv{i + 1}", conv(widths[i + 1], widths[i], size, stride))
        stride = max(strides)
        self.downsample = named(conv=conv(co, ci, 1, stride)) if ci != co or stride > 1 else None

    def forward(self, x):
        active = F.relu(self.norm1(x))
        shortcut = x if self.downsample is None else self.downsample["conv"](active)
        for i in range(1, self.count + 1):
            if i > 1:
                active = F.relu(getattr(self, f"norm{i}")(active))
            active = getattr(self, f"conv{i}")(active)
        return active + shortcut


class Stages(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)


class BitResNet(nn.Module):
    def __init__(self, stem, pools, stages, groups, classes):
        super().__init__()
        self.stem = named(conv=stem)
        self.pools = pools
        self.stages = nn.ModuleList(Stages(blocks) for blocks in stages)
        width = stages[-1][-1].get_submodule(f"conv{stages[-1][-1].count}").out_channels
        self.norm = nn.GroupNorm(groups, width)
        self.head = named(fc=nn.Linear(width, classes))

    def forward(self, x):
        x = self.stem["conv"](x)
        if self.pools:
            x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        for stage in self.stages:
            for block in stage.blocks:
                x = block(x)
        return self.head["fc"](F.relu(self.norm(x)).mean((2, 3)))


def small(width, blocks=3, classes=100, groups=8):
    stages, ci = [], width
    for stage in range(3):
        own = []
        for i in range(blocks):
            stride = 2 if stage and not i else 1
            own.append(Block(ci, width << stage, width << stage, (3, 3), (stride, 1), groups))
            ci = width << stage
        stages.append(own)
    return BitResNet(conv(width, 3, 3), False, stages, groups, classes)


def bit(depths, width, classes):
    stages, ci = [], width
    for stage, blocks in enumerate(depths):
        own = []
        for i in range(blocks):
            stride = 2 if stage and not i else 1
            own.append(Block(ci, width << stage, 4 * width << stage, (1, 3, 1), (1, stride, 1), 32))
            ci = 4 * width << stage
        stages.append(own)
    return BitResNet(conv(width, 3, 7, 2), True, stages, 32, classes)


def r50(classes=1000):
    return bit((3, 4, 6, 3), 64, classes)


def r152x2(classes=1000):
    return bit((3, 8, 36, 3), 128, classes)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn = Attention(width, heads)
        self.mlp = named(fc1=nn.Linear(width, 4 * width), fc2=nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, width=192, depth=6, heads=3, patch=4, side=32, classes=100):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (side // patch) ** 2, width) * 0.02)
        self.patch_embed = named(proj=nn.Conv2d(3, width, patch, patch))
        self.blocks = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
