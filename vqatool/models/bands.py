"""Band contrast: how much detail a picture has, compared with the step of its quantiser.

A codec removes what is small against its quantiser step, so the same step costs a flat sky nothing
and a lawn much. The energy of each octave against the step tells where a picture stands. Where the
step is unknown or does not describe the picture (it was encoded twice), the picture has traces: how
fast detail falls off at its sharpest places shows scaling and blur; the noise of its quietest cells
and the number of equal neighbours show what coding removed. A small network would need many
contents to learn these statistics; they have no parameters. They are ours.

Shapes: B frames, C channels, H height, W width, N cells, K cells of most detail, S statistics.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CELL_PX = 8  # side of the picture area that energy is averaged over, in every octave
_MIN_ENERGY = 0.1  # added to energies before the logarithm, squares of 8 bit samples
_MIN_NOISE = 0.05  # added to noise before the logarithm, 8 bit samples
_SHARPEST_SHARE = 0.1  # of the cells: where the fall of detail is measured
_TRACES = 8  # statistics of `detail_fall` and of `quietness`, four each
_MAX_EQUAL = 0.5  # difference of neighbours that count as equal, 8 bit samples


class BandContrast(nn.Module):
    """Frames -> statistics of their Haar bands and of traces of coding; no parameters.

    No statistic crosses a border of 2^levels px, so the seams of a mosaic do not matter where the
    side of its patches is a multiple of it.
    """

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        self._levels = levels
        self.width = 2 + 4 * levels + _TRACES
        luma = torch.tensor((0.2126, 0.7152, 0.0722)).view(3, 1, 1)  # ITU-R BT.709
        self.register_buffer("_luma", 255 * luma, persistent=False)

    def forward(self, pixels_BCHW: Tensor, log2_step_B: Tensor, has_step_B: Tensor) -> Tensor:
        """Statistics of about unit deviation.

        Args:
            pixels_BCHW: RGB in [0, 1], sides of at least 2^levels.
            log2_step_B: log2 of the quantiser step of each frame, in 8 bit samples.
            has_step_B: 1 where the step is known; 0 sets the statistics that need it to 0.

        Returns:
            (B, S): mean and deviation of luma; for each octave from the finest mean and deviation
            of log2 energy, mean log2(1 + energy / step^2) at a quarter of the step and at the step;
            those of `detail_fall`; those of `quietness`.
        """
        luma_B1HW = (pixels_BCHW.float() * self.get_buffer("_luma")).sum(1, keepdim=True)
        statistics = [luma_B1HW.mean((1, 2, 3)) / 100 - 1, luma_B1HW.std((1, 2, 3)) / 50 - 1]
        energies = haar_energies(luma_B1HW, self._levels)
        for energy_BN in energies:
            level_BN = torch.log2(energy_BN + _MIN_ENERGY)
            statistics += [level_BN.mean(1) / 4, level_BN.std(1) / 2]
            for part in (2.0, 0.0):
                ratio_BN = energy_BN * torch.exp2(2 * (part - log2_step_B))[:, None]
                statistics.append(has_step_B * torch.log2(1 + ratio_BN).mean(1) / 3)
        statistics += detail_fall(energies)
        statistics += quietness(luma_B1HW, 2**self._levels)
        return torch.stack(statistics, dim=1)


def haar_energies(image_B1HW: Tensor, levels: int) -> list[Tensor]:
    """Mean energy of the three Haar details of each octave, finest first, each (B, cells).

    Cells are 8 px wide, or one coefficient where that is wider.
    """
    energies = []
    for level in range(levels):
        height, width = (side // 2 * 2 for side in image_B1HW.shape[-2:])
        image_B1HW = image_B1HW[..., :height, :width]
        a, b = image_B1HW[..., ::2, ::2], image_B1HW[..., ::2, 1::2]
        c, d = image_B1HW[..., 1::2, ::2], image_B1HW[..., 1::2, 1::2]
        details = (a - b + c - d).square() + (a + b - c - d).square() + (a - b - c + d).square()
        cell = max(1, _CELL_PX >> (level + 1))
        energies.append(F.avg_pool2d(details / 12, cell).flatten(1))
        image_B1HW = (a + b + c + d) / 4
    return energies


def detail_fall(energies: list[Tensor]) -> list[Tensor]:
    """How fast energy falls from coarse octaves to fine ones at the sharpest places, each (B,).

    Mean over the cells that hold most of the third octave, of log2 energy of the first over the
    second and of the second over the third; then the deviations of both. All are brought to about
    zero mean and unit deviation: a network learns next to nothing from inputs that hardly vary.
    """
    finest = [torch.log2(energy_BN + _MIN_ENERGY) for energy_BN in energies[:3]]
    cells = min(int(level_BN.shape[1]) for level_BN in finest)
    sharpest_BK = finest[2].topk(max(2, round(_SHARPEST_SHARE * cells)), dim=1).indices
    first, second, third = (level_BN.gather(1, sharpest_BK) for level_BN in finest)
    falls = (first - second, second - third)
    means = [(fall.mean(1) + 1.5) / 0.4 for fall in falls]
    return means + [(fall.std(1) - 0.8) / 0.4 for fall in falls]


def quietness(luma_B1HW: Tensor, cell_px: int) -> list[Tensor]:
    """How little signal there is in cells of `cell_px` px, each (B,).

    log2 of the noise, after "Fast Noise Variance Estimation" (Immerkaer, CVIU 1996, eq. 1), of the
    quietest, the median and the loudest cell; then the share of neighbours in a row that are equal,
    -2.5 to 2.5.
    """
    cells = luma_B1HW.unfold(2, cell_px, cell_px).unfold(3, cell_px, cell_px)
    cells_BNHW = cells.flatten(1, 3)
    # Immerkaer's mask is the second difference along both axes
    response = cells_BNHW.diff(n=2, dim=-1).diff(n=2, dim=-2) / 6
    noise_BN = response.abs().mean((2, 3))
    # by sorting: ONNX has no median
    ordered_BN = noise_BN.sort(dim=1).values
    middle = (ordered_BN.shape[1] - 1) // 2
    parts = (ordered_BN[:, 0], ordered_BN[:, middle], ordered_BN[:, -1])
    is_equal = (cells_BNHW.diff(dim=-1).abs() < _MAX_EQUAL).float()
    return [
        *(torch.log2(part_B + _MIN_NOISE) + 2 for part_B in parts),
        5 * is_equal.mean((1, 2, 3)) - 2.5,
    ]
