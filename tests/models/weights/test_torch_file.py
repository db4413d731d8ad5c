"""Where the numbers of a tensor lie in a storage."""

from pathlib import Path

import pytest
import torch

from avlearn.models.weights.pickles import StorageRecord, TensorRecord
from avlearn.models.weights.torch_file import Place, TorchFile


@pytest.mark.parametrize("first", [0, 4, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.bool])
def test_a_storage_may_be_a_part_of_another(tmp_path: Path, first: int, dtype: torch.dtype) -> None:
    numbers = torch.arange(12).remainder(2 if dtype is torch.bool else 12).to(dtype)
    path = tmp_path / "a.pth"
    path.write_bytes(b"head" + numbers.view(torch.uint8).numpy().tobytes())
    record = TensorRecord(StorageRecord("0", dtype, 6, first), dtype, 1, (2, 2), (2, 1))
    file = TorchFile(path, None, {"0": Place(4, 12 * dtype.itemsize)})
    found = file.tensors({"a": record})["a"]
    assert torch.equal(found, numbers[first + 1 : first + 5].view(2, 2))
