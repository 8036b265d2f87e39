"""Compare the Triton kernels of tree attention with their plain twins, in Triton's interpreter (TRITON_INTERPRET=1)."""

from dataclasses import dataclass

import torch

from r2gen.lm import tree_attention, tree_kernel


@dataclass(frozen=True)
class Case:
    slots: int
    beams: int
    heads: int
    shared: int  # heads of keys
    width: int
    prompt: int
    tokens: int
    window: int | None = None
    softcap: float | None = None
    opening: int = 0


CASES = [
    Case(3, 3, 4, 4, 32, 20, 30),
    Case(2, 3, 8, 2, 64, 70, 40),
    Case(2, 1, 4, 4, 80, 7, 90),
    Case(2, 5, 4, 1, 48, 10, 20),
    Case(3, 3, 4, 2, 32, 40, 30, window=11),
    Case(2, 3, 4, 2, 32, 40, 30, softcap=2.0),
    Case(2, 2, 4, 2, 256, 40, 10, window=5, softcap=1.0),
    Case(40, 1, 8, 4, 16, 9, 9),
    Case(3, 1, 4, 4, 32, 20, 30, opening=6),
    Case(3, 3, 4, 2, 64, 40, 30, opening=18, window=25),
]


def tree_of(case: Case, *, kernel: bool) -> tree_attention.Tree:
    source = torch.Generator().manual_seed(0)

    def drawn(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=source)

    columns = case.prompt + case.tokens * case.beams
    tree = tree_attention.Tree(
        columns=columns,
        prompt_S=drawn(case.opening + 1, case.prompt + 1, case.slots),
        fed_S=drawn(1, case.tokens + 1, case.slots),
        ancestors_SKG=drawn(0, case.beams, case.slots, case.beams, case.tokens).to(torch.int16),
        kernel=kernel,
        longest=columns,
        opening=case.opening,
    )
    own_SK1 = torch.arange(case.beams, dtype=torch.int16)[None, :, None].expand(case.slots, -1, 1)
    tree.ancestors_SKG.scatter_(2, (tree.fed_S - 1)[:, None, None].expand(-1, case.beams, 1), own_SK1)
    shape = (case.slots, case.shared, columns, case.width)
    tree.layers[0] = (torch.randn(shape, generator=source), torch.randn(shape, generator=source))
    for stored_SNCD in tree.layers[0]:
        stored_SNCD[:, :, : case.opening] = stored_SNCD[:1, :, : case.opening].clone()
    tree.begin()
    return tree


class Layer(torch.nn.Module):
    layer_idx = 0


def compare_live(case: Case) -> None:
    """The columns that the kernel reads are those that the plain twin shows to any beam."""
    tree = tree_of(case, kernel=True)
    live_SC, count_S = tree.live(case.window)
    for live_C, count, visible_KC in zip(live_SC, count_S.tolist(), tree.visible(case.window), strict=True):
        if case.beams > 1:
            assert live_C[:count].tolist() == visible_KC.any(dim=0).nonzero().flatten().tolist(), case


def compare_prompts(case: Case) -> None:
    stored = []
    for kernel in (False, True):
        tree, source = tree_of(case, kernel=kernel), torch.Generator().manual_seed(2)
        own = case.prompt - case.opening
        key, value = torch.randn(2, 2, own, case.shared, case.width, generator=source).transpose(2, 3)
        tree.begin(torch.tensor([case.slots - 1]))  # one prompt; the other row pads the group
        tree.write(0, key, value)
        stored.append(tree.layers[0])
    assert all(torch.equal(a, b) for a, b in zip(*stored, strict=True)), case


def main() -> None:
    for case in CASES:
        results = []
        for kernel in (False, True):
            tree, source = tree_of(case, kernel=kernel), torch.Generator().manual_seed(1)
            query, key, value = (
                torch.randn(case.slots, case.beams, heads, case.width, generator=source).transpose(1, 2)
                for heads in (case.heads, case.shared, case.shared)
            )
            with tree_attention.attending_to(tree):
                result, _ = tree_attention.tree_attention(
                    Layer(), query, key, value, None, sliding_window=case.window, softcap=case.softcap
                )
            results.append((result, *tree.layers[0]))
        (plain, *stored), (fast, *stored_fast) = results
        assert all(torch.equal(a, b) for a, b in zip(stored, stored_fast, strict=True)), case
        assert torch.allclose(plain, fast, atol=1e-5), (case, (plain - fast).abs().max())
        compare_live(case)
        compare_prompts(case)
        print("equal", case)


if __name__ == "__main__":
    assert tree_kernel.triton is not None
    main()
