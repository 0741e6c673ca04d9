import subprocess
import sys

from binarch.data import derive_seed


def test_same_parts_give_the_same_seed_in_another_process() -> None:
    code = "from binarch.data.seeds import derive_seed; print(derive_seed(3, 'order', 7))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == derive_seed(3, "order", 7)


def test_parts_are_told_apart() -> None:
    seeds = [derive_seed(*parts) for parts in ((1, 2), (2, 1), (12,), ("1", 2), ("1, 2",), (1,), (), (1, 2, 0))]
    assert len(set(seeds)) == len(seeds)


def test_seeds_fill_63_bits() -> None:
    seeds = [derive_seed(number) for number in range(2000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert all(800 < sum(seed >> bit & 1 for seed in seeds) < 1200 for bit in range(63))
