"""How much detail a picture holds in each octave, alone and against the quantiser's step.

What a codec throws away is what is small against its step, so the same step costs a flat sky
nothing and a lawn everything. These figures say where on that scale a picture stands, and they need
no training: what a small net would otherwise have to find out from few contents.

Shapes: B frames, C channels, H height, W width, S figures.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CELL_PX = 8  # energy is averaged over this much of the picture, in every octave
_DARKEST = 0.1  # energy below which a band is empty, squares of 8 bit samples


class BandContrast(nn.Module):
    """Frames -> figures of their Haar bands; no parameters.

    Haar bands never look across a border of 2^levels px, so the seams of a mosaic of patches whose
    side is a multiple of it stay out of them.
    """

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        self._levels = levels
        self.width = 2 + 4 * levels
        luma = torch.tensor((0.2126, 0.7152, 0.0722)).view(3, 1, 1)  # ITU-R BT.709
        self.register_buffer("_luma", 255 * luma, persistent=False)

    def forward(self, pixels_BCHW: Tensor, log2_step_B: Tensor, has_step_B: Tensor) -> Tensor:
        """Figures of about unit spread.

        Args:
            pixels_BCHW: RGB in [0, 1], sides of at least 2^levels.
            log2_step_B: quantiser's step of each frame, log2 of 8 bit samples.
            has_step_B: 1 where it is known, 0 where the figures that need it are to be 0.

        Returns:
            (B, S): mean and deviation of luma, then for each octave from the finest: mean and
            deviation of log2 energy, mean log2(1 + energy / step^2) at a quarter of the step and
            at the step.
        """
        luma_B1HW = (pixels_BCHW.float() * self.get_buffer("_luma")).sum(1, keepdim=True)
        figures = [luma_B1HW.mean((1, 2, 3)) / 100 - 1, luma_B1HW.std((1, 2, 3)) / 50 - 1]
        for energy_BN in haar_energies(luma_B1HW, self._levels):
            level_BN = torch.log2(energy_BN + _DARKEST)
            figures += [level_BN.mean(1) / 4, level_BN.std(1) / 2]
            for part in (2.0, 0.0):
                ratio_BN = energy_BN * torch.exp2(2 * (part - log2_step_B))[:, None]
                figures.append(has_step_B * torch.log2(1 + ratio_BN).mean(1) / 3)
        return torch.stack(figures, dim=1)


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
